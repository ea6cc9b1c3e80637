//! A window of time over which something is measured: how fast, and what it cost whom.

use std::time::Duration;

use anyhow::Result;

use crate::lean::load::Load;
use crate::lean::sink::Sink;
use crate::stage::Stage;
use crate::usage::{Reading, Usage};

/// How often a long run says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What was used in a window, in seconds of CPU.
pub(crate) struct Cost {
    pub(crate) host: Usage,
    load: f64,
    sink: f64,
    /// What everyone but the host and the bench took.
    foreign: f64,
    resident: u64,
}

impl Cost {
    /// The parts in µs of CPU per event, and what the machine was doing otherwise.
    pub(crate) fn described(&self, events: f64) -> String {
        let each = |seconds: f64| seconds / events * 1e6;
        let seconds = self.host.seconds();
        format!(
            "CPU per event: host {:.1} µs, load {:.1} µs, downstream {:.1} µs; of the machine's cores the host had {:.2}, \
             others than this bench {:.2}, the hypervisor {:.2}; {:.0} bytes written to the disk per event; resident {} MB",
            each(self.host.cpu),
            each(self.load),
            each(self.sink),
            self.host.cpu / seconds,
            self.foreign / seconds,
            self.host.stolen / seconds,
            self.written_per(events),
            self.resident / 1_000_000,
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes of a bench")]
    fn written_per(&self, events: f64) -> f64 {
        self.host.written as f64 / events
    }
}

/// Waits for `seconds`, saying now and then how far it is, and answers what was used meanwhile.
pub(crate) async fn over(
    seconds: u64,
    stage: &Stage,
    load: &Load,
    sink: Option<&Sink>,
    said: impl Fn() -> String,
) -> Result<Cost> {
    let own = std::process::id();
    let sink_cpu = || sink.map_or(Ok(0.0), Sink::cpu);
    let (load_from, sink_from, own_from, host_from) = (load.cpu()?, sink_cpu()?, Reading::of(own)?, stage.reading()?);
    wait(seconds, said).await;
    let (host_to, own_to) = (stage.reading()?, Reading::of(own)?);
    let host = Usage::between(&host_from, &host_to);
    let own = Usage::between(&own_from, &own_to);
    Ok(Cost {
        host,
        load: load.cpu()? - load_from,
        sink: sink_cpu()? - sink_from,
        foreign: (host.others - own.cpu).max(0.0),
        resident: host_to.resident,
    })
}

/// Waits, saying now and then how far it is.
pub(crate) async fn wait(seconds: u64, said: impl Fn() -> String) {
    let all = Duration::from_secs(seconds);
    let mut passed = Duration::ZERO;
    while passed < all {
        let step = TOLD_EVERY.min(all - passed);
        tokio::time::sleep(step).await;
        passed += step;
        if all > TOLD_EVERY {
            println!("    {} of {} s: {}", passed.as_secs(), seconds, said());
        }
    }
}

/// Events per second.
#[expect(clippy::cast_precision_loss, reason = "counts of events")]
pub(crate) fn rate(events: u64, seconds: f64) -> f64 {
    events as f64 / seconds
}
