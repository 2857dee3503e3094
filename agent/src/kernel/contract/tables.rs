//! Tables to want.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Kernel, apply,
    build::{self, Built, inner},
    cleared, expect, refused,
};
use crate::plan::{
    op::{Op, SettingOp},
    ruleset::{PortKey, Table},
    state::State,
};

/// Ports come, go and lead elsewhere in a table that stays; a change that does not fit leaves all as it was.
pub(super) async fn ports<K: Kernel>(kernel: &K) -> Built<()> {
    cleared(kernel, async {
        let (mut desired, netns) = (build::network()?, inner()?);
        let whole = with_ports(&mut desired, |ports| {
            let (first, to) = ports.first_key_value().map(|(key, to)| (*key, *to)).ok_or("an empty map")?;
            ports.extend((1..20).map(|more| (PortKey { port: 20_000 + more, ..first }, to)));
            Ok(())
        })?;
        apply(kernel, build::steps(&desired)).await?;
        let other = with_ports(&mut desired, |ports| {
            let (first, to) = ports.pop_first().ok_or("an empty map")?;
            ports.insert(PortKey { port: 30_000, ..first }, to);
            ports.values_mut().take(2).for_each(|(_, port)| *port = 9);
            Ok(())
        })?;
        let changes = whole.port_changes(&other).ok_or("only ports differ")?;
        let change = || vec![Op::Setting(netns.clone(), SettingOp::ChangePorts(changes.clone()))];
        apply(kernel, change()).await?;
        expect(kernel, &desired).await?;
        refused(kernel, change()).await?;
        expect(kernel, &desired).await?;
        apply(kernel, vec![Op::Setting(netns.clone(), SettingOp::RemoveTable)]).await?;
        refused(kernel, change()).await.map(|_error| ())
    })
    .await
}

type Ports = BTreeMap<PortKey, (IpAddr, u16)>;

/// The table, after all of its maps were changed so.
fn with_ports(state: &mut State, change: impl Fn(&mut Ports) -> Result<(), &'static str>) -> Built<Table> {
    let table = state.netns.get_mut(&inner()?).and_then(|state| state.table.as_mut()).ok_or("no table")?;
    table.ports.values_mut().try_for_each(change)?;
    Ok(table.clone())
}
