//! The shape that `ls`, `inspect` and `rm` have for every noun.

use serde::Serialize;
use serde_json::Value;
use tonic::Status;

use crate::{
    cli::Context,
    client::Agent,
    failure::{Exit, Failure, Tally},
    output::{Column, InspectFormat, Inspection, Listing, Presentation},
};

/// Print rows of these columns. `key`: the field that `--quiet` prints.
///
/// # Errors
/// The template meets a field that there is not, or standard output fails.
pub(super) fn list<const N: usize>(
    cx: &mut Context,
    how: &Presentation,
    columns: &'static [Column],
    key: &'static str,
    rows: impl IntoIterator<Item = [Value; N]>,
) -> Result<Exit, Failure> {
    let mut listing = Listing::new(columns, key);
    rows.into_iter().for_each(|row| listing.push(row));
    listing.print(&mut cx.out, how)?;
    Ok(Exit::DONE)
}

/// Ask for each object by its name, and print what there is. A refusal is reported at once, and the rest goes on.
///
/// # Errors
/// The agent cannot be reached, the template does not fit, or standard output fails.
pub(super) async fn inspect<V: Serialize>(
    cx: &mut Context,
    format: Option<InspectFormat>,
    names: Vec<String>,
    mut ask: impl AsyncFnMut(&mut Agent, String) -> Result<V, Status>,
) -> Result<Exit, Failure> {
    let mut agent = cx.agent().await?;
    let mut tally = Tally::default();
    let mut inspection = Inspection::new(format.as_ref());
    for name in names {
        let answer = ask(&mut agent, name).await;
        if let Some(view) = tally.note(answer.map_err(Failure::from))? {
            inspection.push(&mut cx.out, &view)?;
        }
    }
    inspection.finish(&mut cx.out)?;
    Ok(tally.exit())
}

/// Remove each object by its name, and print the name that comes back; None: nothing was there, which is no matter. A refusal is
/// reported at once, and the rest goes on.
///
/// # Errors
/// The agent cannot be reached, or standard output fails.
pub(super) async fn remove(
    cx: &mut Context,
    names: Vec<String>,
    mut one: impl AsyncFnMut(&mut Agent, String) -> Result<Option<String>, Status>,
) -> Result<Exit, Failure> {
    let mut agent = cx.agent().await?;
    let mut tally = Tally::default();
    for name in names {
        let removed = one(&mut agent, name).await;
        if let Some(Some(name)) = tally.note(removed.map_err(Failure::from))? {
            cx.out.line(&name)?;
        }
    }
    Ok(tally.exit())
}
