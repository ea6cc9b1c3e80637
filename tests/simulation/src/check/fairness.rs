//! What ails other sites is not felt: a sound site's events arrive in time whatever its neighbours' downstreams do.

use super::{Evidence, Violation};

const RULE: &str = "one site cannot slow another";

/// The stated bound, from durable to downstream, in milliseconds. A sound downstream answers within 50 ms, a burst has at
/// most 60 events, and a batch waits at most 100 ms to fill.
const BOUND: u64 = 2_000;

pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    if !evidence.spared {
        return Vec::new();
    }
    let late = evidence.captured.iter().filter_map(|event| {
        let first = evidence.arrivals_of(&event.id).find(|arrival| arrival.acted)?;
        let took = first.at.saturating_sub(event.at);
        // Nobody delivers while the host is not there, and it then has to catch up.
        let down = |(from, to, _): &(u64, u64, bool)| *from <= event.at + BOUND && event.at < to + BOUND;
        (took > BOUND && !evidence.downtimes.iter().any(down)).then_some((event, took))
    });
    let late = late.max_by_key(|(_, took)| *took);
    let said = late.map(|(event, took)| format!("{}: {} took {took} ms", evidence.instance, event.id));
    said.map(|said| Violation::new(RULE, said)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::super::kit::spared;
    use super::*;

    #[test]
    fn a_spared_sites_event_that_takes_long_is_told() {
        let mut evidence = Evidence { spared: true, ..spared() };
        evidence.arrivals[0].at = evidence.captured[0].at + BOUND;
        assert_eq!(check(&evidence), []);
        evidence.arrivals[0].at += 1;
        assert_eq!(check(&evidence).len(), 1);
        evidence.downtimes.push((500, 900, false));
        assert_eq!(check(&evidence), []);
        evidence.downtimes.clear();
        evidence.spared = false;
        assert_eq!(check(&evidence), []);
    }
}
