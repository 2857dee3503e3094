//! What the kernel hints at, with the loop running in paused time.

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::kernel::Hint;

/// A loop that runs, on a bench whose own loop is not used any more.
pub(super) struct Running {
    pub(super) kernel: Arc<MemoryKernel>,
    pub(super) world: Arc<World>,
    pub(super) told: Told,
    hint: mpsc::Sender<Hint>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let mut bench = Bench::new().await;
        bench.sandbox("a").await;
        bench.here(vec![known(&bridge(1)), there(&endpoint(&bridge(1), 2, "a"))]).await;
        Self::of(bench).await
    }

    pub(super) async fn of(bench: Bench) -> Self {
        let (hint, hints) = mpsc::channel(8);
        let (_ask, requests) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let task = tokio::spawn(bench.reconciler.run(requests, hints, stop.clone()));
        // The first look at everything.
        sleep(Duration::from_secs(1)).await;
        Self { kernel: bench.kernel, world: bench.world, told: bench.told, hint, stop, task }
    }

    fn flush(&self) {
        self.kernel.edit(|state| state.netns.get_mut(&Netns::Host).unwrap().table = None);
    }

    fn has_table(&self) -> bool {
        self.kernel.state().netns[&Netns::Host].table.is_some()
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn flushed_rules_are_back_at_once() {
    let running = Running::start().await;
    for _ in 0..5 {
        running.flush();
        running.hint.send(Hint::Ruleset).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(running.has_table());
        // Our own writing is hinted at, too.
        running.hint.send(Hint::Ruleset).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn our_own_writes_do_not_keep_us_busy() {
    let running = Running::start().await;
    let (looked, applied) = (running.kernel.looked(), running.kernel.applied());
    for _ in 0..100 {
        // Each hint finds all as it should be.
        running.hint.send(Hint::Ruleset).await.unwrap();
        running.hint.send(Hint::HostLinks).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.kernel.applied(), applied);
    let looks = running.kernel.looked() - looked;
    assert!((1..=30).contains(&looks), "{looks} looks for a second of hints");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_flushes_whatever_we_write_is_answered_slowly_and_never_later_than_in_two_seconds() {
    let running = Running::start().await;
    let applied = running.kernel.applied();
    let (mut away, mut longest) = (Duration::ZERO, Duration::ZERO);
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..60_000 {
        if running.has_table() {
            longest = longest.max(std::mem::take(&mut away));
            running.flush();
            running.hint.send(Hint::Ruleset).await.unwrap();
        }
        sleep(STEP).await;
        away += STEP;
    }
    let writes = running.kernel.applied() - applied;
    assert!((300..800).contains(&writes), "{writes} writes in ten minutes");
    assert!(longest <= Duration::from_secs(2) + STEP, "{longest:?}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_is_a_reason_for_both_looks() {
    let running = Running::start().await;
    running.flush();
    running.kernel.edit(|state| {
        let host = state.netns.get_mut(&Netns::Host).unwrap();
        host.links.retain(|name, _| !name.as_str().starts_with("ovb-"));
    });
    running.hint.send(Hint::Lost).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(running.has_table());
    let links = running.kernel.state().netns.remove(&Netns::Host).unwrap().links;
    assert!(links.keys().any(|name| name.as_str().starts_with("ovb-")));
    running.end().await;
}
