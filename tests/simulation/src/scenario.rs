//! A scenario: everything that a seed decides beforehand. Plain data, and its words.

use std::fmt;

use sgen_delivery::EnableFrom;

use crate::fault::Episode;
use crate::words::span;

/// What happens in one simulation.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// The course at which the last fault ends and nothing new is captured, in milliseconds.
    pub(crate) span: u64,
    pub(crate) sites: Vec<Site>,
    pub(crate) instances: Vec<Instance>,
    /// What is done when, ascending.
    pub(crate) steps: Vec<(u64, Step)>,
}

/// A site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    /// Its downstreams are sound and its operator changes nothing: what ails other sites must not be felt here.
    pub(crate) spared: bool,
}

/// A connector instance with its downstream.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) site: usize,
    pub(crate) name: String,
    pub(crate) scope: Vec<&'static str>,
    pub(crate) downstream: Plan,
}

/// How a downstream behaves.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How long an answer takes, in milliseconds, from and to.
    pub(crate) latency: (u64, u64),
    pub(crate) episodes: Vec<Episode>,
    /// Larger bodies are answered with 413, in bytes.
    pub(crate) body_limit: Option<usize>,
    /// Of a thousand events, how many it refuses for good with 400.
    pub(crate) poison: u64,
}

/// One event to be captured.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) surface: &'static str,
    /// Whom it is about: what an instance may be asked to keep in order by.
    pub(crate) person: u64,
    /// How many bytes are in it beside the rest.
    pub(crate) padding: usize,
}

/// Something that is done.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Capture {
        site: usize,
        events: Vec<Event>,
    },
    Disable {
        instance: usize,
    },
    Enable {
        instance: usize,
        from: EnableFrom,
    },
    Remap {
        instance: usize,
    },
    Rescope {
        instance: usize,
        scope: Vec<&'static str>,
    },
    /// Without need: the downstream takes both credentials for a time.
    Rotate {
        instance: usize,
    },
    /// The wall clock jumps by so many milliseconds.
    Jump {
        by: i64,
    },
    /// The host ends and is started again after so many milliseconds.
    Restart {
        crash: bool,
        down: u64,
    },
    /// Operators look at their instances and mend what is paused.
    Round,
    /// The books are compared in between.
    Inspect,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.steps.iter().map(|(_, step)| match step {
            Step::Capture { events, .. } => events.len(),
            _ => 0,
        });
        writeln!(
            f,
            "  {} sites, {} instances, {} events within {}",
            self.sites.len(),
            self.instances.len(),
            events.sum::<usize>(),
            span(self.span)
        )?;
        for (index, site) in self.sites.iter().enumerate() {
            writeln!(f, "  {}{}", site.name, if site.spared { ", spared" } else { "" })?;
            for instance in self.instances.iter().filter(|instance| instance.site == index) {
                let Plan { latency, episodes, body_limit, poison } = &instance.downstream;
                write!(f, "    {} takes {}", instance.name, instance.scope.join(", "))?;
                write!(f, "; its downstream answers within {} to {} ms", latency.0, latency.1)?;
                if let Some(limit) = body_limit {
                    write!(f, ", takes {limit} bytes")?;
                }
                if *poison > 0 {
                    write!(f, ", refuses {poison} in 1000 events")?;
                }
                writeln!(f)?;
                for episode in episodes {
                    writeln!(f, "      {episode}")?;
                }
            }
        }
        for (at, step) in &self.steps {
            let name = |instance: &usize| self.instances.get(*instance).map_or("", |i| i.name.as_str());
            let said = match step {
                Step::Capture { .. } | Step::Round | Step::Inspect => continue,
                Step::Disable { instance } => format!("{} is disabled", name(instance)),
                Step::Enable { instance, from } => format!("{} is enabled, from {from:?}", name(instance)),
                Step::Remap { instance } => format!("{} is given another mapping", name(instance)),
                Step::Rescope { instance, scope } => format!("{} takes {}", name(instance), scope.join(", ")),
                Step::Rotate { instance } => format!("{} is given another credential", name(instance)),
                Step::Jump { by } if *by < 0 => format!("the clock is set back by {}", span(by.unsigned_abs())),
                Step::Jump { by } => format!("the clock is set forward by {}", span(by.unsigned_abs())),
                Step::Restart { crash: true, down } => format!("the host crashes and is back after {}", span(*down)),
                Step::Restart { crash: false, down } => {
                    format!("the host is stopped and is back after {}", span(*down))
                }
            };
            writeln!(f, "  at {} {said}", span(*at))?;
        }
        Ok(())
    }
}
