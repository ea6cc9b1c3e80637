//! Drawing a scenario from a seed.

use sgen_delivery::EnableFrom;

use crate::dice::Dice;
use crate::fault::{Episode, Fault, Wait};
use crate::scenario::{Event, Instance, Plan, Scenario, Site, Step};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const SURFACES: [&str; 6] =
    ["form:contact", "form:quote", "analytics:view", "phone-tap:header", "event:signup", "event:purchase"];
const SCOPES: [&[&str]; 5] =
    [&["*"], &["form:*"], &["form:*", "event:*"], &["analytics:*", "phone-tap:*"], &["form:contact", "event:signup"]];

/// The scenario of a seed.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed);
    let span = match dice.weighted(&[30, 30, 25, 15]) {
        0 => dice.between(20 * SECOND, 3 * MINUTE),
        1 => dice.between(3 * MINUTE, HOUR),
        2 => dice.between(HOUR, 12 * HOUR),
        _ => dice.between(12 * HOUR, 4 * DAY),
    };
    let count = dice.between(2, 5);
    // Somebody to measure the others' trouble by.
    let spared = dice.percent(60);
    let sites: Vec<Site> =
        (0..count).map(|index| Site { name: format!("site-{index}"), spared: spared && index == 0 }).collect();
    let mut instances = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        for nth in 0..dice.between(1, 4) {
            let scope = SCOPES.get(dice.weighted(&[50, 20, 15, 10, 5])).copied().unwrap_or(&["*"]);
            let downstream = if site.spared { sound(&mut dice) } else { plan(&mut dice, span) };
            let name = format!("{}-{nth}", site.name);
            instances.push(Instance { site: index, name, scope: scope.to_vec(), downstream });
        }
    }
    let mut steps = captures(&mut dice, sites.len(), span);
    changes(&mut dice, &sites, &instances, span, &mut steps);
    machine(&mut dice, span, &mut steps);
    // Operators look in at least a few times, and more often where things go fast.
    let pause = dice.magnitude(span / 12 + 1, span / 3 + 2);
    steps.extend((1..).map(|nth| nth * pause).take_while(|at| *at < span).map(|at| (at, Step::Round)));
    steps.extend((0..dice.between(1, 4)).map(|_| (dice.between(0, span), Step::Inspect)));
    steps.sort_by_key(|(at, _)| *at);
    Scenario { seed, span, sites, instances, steps }
}

fn sound(dice: &mut Dice) -> Plan {
    let low = dice.between(1, 20);
    Plan { latency: (low, low + dice.between(0, 30)), episodes: Vec::new(), body_limit: None, poison: 0 }
}

fn plan(dice: &mut Dice, span: u64) -> Plan {
    let mut plan = sound(dice);
    if dice.percent(15) {
        plan.latency.1 = dice.magnitude(100, 8 * SECOND);
    }
    if dice.percent(30) {
        plan.poison = dice.between(5, 100);
    }
    if dice.percent(25) {
        plan.body_limit = Some(usize::try_from(dice.magnitude(400, 60_000)).unwrap_or(400));
    }
    let episodes = dice.weighted(&[15, 35, 25, 15, 10]);
    for _ in 0..episodes {
        let from = dice.between(0, span);
        let longest = span - from;
        let until = from + dice.magnitude(200.min(longest), longest);
        let share = if dice.percent(60) { 100 } else { dice.between(10, 90) };
        let fault = fault(dice);
        plan.episodes.push(Episode { from, until, fault, share: if fault.lasts() { 100 } else { share } });
    }
    plan.episodes.sort_by_key(|episode| episode.from);
    plan
}

fn fault(dice: &mut Dice) -> Fault {
    let wait = |dice: &mut Dice| {
        let seconds = dice.magnitude(1, 6 * 3600);
        match dice.weighted(&[35, 40, 25]) {
            0 => None,
            1 => Some(Wait::Seconds(seconds)),
            _ => Some(Wait::Date(seconds)),
        }
    };
    match dice.weighted(&[10, 4, 8, 8, 8, 6, 16, 8, 8, 5, 4, 8, 4, 3]) {
        0 => Fault::Refused,
        1 => Fault::Silent,
        2 => Fault::ResetBefore,
        3 => Fault::ResetAfter,
        4 => Fault::Hang,
        5 => Fault::HangAfter,
        6 => Fault::TooMany(wait(dice)),
        7 => Fault::Unavailable(wait(dice)),
        8 => Fault::Slow(dice.magnitude(200, 19 * SECOND)),
        9 => Fault::Garbage,
        10 => Fault::CutShort,
        11 => Fault::Revoked,
        12 => Fault::Forbidden,
        _ => Fault::Gone,
    }
}

fn captures(dice: &mut Dice, sites: usize, span: u64) -> Vec<(u64, Step)> {
    let total = dice.magnitude(50, 400);
    let people = dice.between(1, 12);
    let weights: Vec<u64> = (0..sites).map(|_| dice.between(1, 6)).collect();
    let bursty = dice.between(0, 90);
    let mut steps = Vec::new();
    let mut drawn = 0;
    while drawn < total {
        let site = dice.weighted(&weights);
        let at = dice.between(0, span);
        let size = if dice.percent(bursty) { dice.between(2, 60).min(total - drawn) } else { 1 };
        let mut events: Vec<Event> = Vec::new();
        for nth in 0..size {
            let padding = match dice.weighted(&[70, 20, 8, 2]) {
                0 => dice.between(0, 200),
                1 => dice.between(200, 4_000),
                2 => dice.between(4_000, 40_000),
                _ => dice.between(40_000, 200_000),
            };
            events.push(Event {
                id: format!("event-{}", drawn + nth),
                surface: SURFACES.get(dice.weighted(&[30, 10, 25, 10, 15, 10])).copied().unwrap_or("form:contact"),
                person: dice.between(1, people),
                padding: usize::try_from(padding).unwrap_or(0),
            });
        }
        drawn += size;
        if dice.percent(6) {
            // The site repeats itself: the host knows these already.
            steps.push((at + dice.between(0, 5 * SECOND), Step::Capture { site, events: events.clone() }));
        }
        steps.push((at, Step::Capture { site, events }));
    }
    steps
}

/// What operators do without need.
fn changes(dice: &mut Dice, sites: &[Site], instances: &[Instance], span: u64, steps: &mut Vec<(u64, Step)>) {
    for (instance, configured) in instances.iter().enumerate() {
        if sites.get(configured.site).is_some_and(|site| site.spared) || !dice.percent(45) {
            continue;
        }
        for _ in 0..dice.between(1, 3) {
            let at = dice.between(0, span);
            match dice.weighted(&[35, 30, 20, 15]) {
                0 => {
                    let from = if dice.percent(50) { EnableFrom::Newest } else { EnableFrom::Meanwhile };
                    let back = at + dice.magnitude(50, span - at + 50);
                    steps.push((at, Step::Disable { instance }));
                    steps.push((back, Step::Enable { instance, from }));
                }
                1 => steps.push((at, Step::Remap { instance })),
                2 => {
                    let scope = SCOPES.get(dice.weighted(&[1, 1, 1, 1, 1])).copied().unwrap_or(&["*"]).to_vec();
                    steps.push((at, Step::Rescope { instance, scope }));
                }
                _ => steps.push((at, Step::Rotate { instance })),
            }
        }
    }
}

/// What befalls the machine.
fn machine(dice: &mut Dice, span: u64, steps: &mut Vec<(u64, Step)>) {
    if dice.percent(35) {
        for _ in 0..dice.between(1, 3) {
            let by = i64::try_from(dice.magnitude(MINUTE, 3 * DAY)).unwrap_or(0);
            let by = if dice.percent(50) { by } else { -by };
            steps.push((dice.between(0, span), Step::Jump { by }));
        }
    }
    if dice.percent(50) {
        let captured: Vec<u64> =
            steps.iter().filter(|(_, step)| matches!(step, Step::Capture { .. })).map(|(at, _)| *at).collect();
        for _ in 0..dice.between(1, 4) {
            // Often while something is on its way.
            let near = captured.get(usize::try_from(dice.between(0, captured.len() as u64)).unwrap_or(0));
            let at = match near {
                Some(at) if dice.percent(60) => at + dice.between(0, 600),
                _ => dice.between(0, span),
            };
            let down = dice.magnitude(20, 5 * MINUTE.min(span));
            steps.push((at, Step::Restart { crash: dice.percent(65), down }));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_scenario_and_another_seed_another() {
        for seed in 1..50 {
            assert_eq!(format!("{:?}", scenario(seed)), format!("{:?}", scenario(seed)));
            assert_ne!(format!("{:?}", scenario(seed)), format!("{:?}", scenario(seed + 1)));
        }
    }

    #[test]
    fn a_scenario_is_within_its_bounds_and_in_order() {
        for seed in 0..300 {
            let scenario = scenario(seed);
            assert!((2..=5).contains(&scenario.sites.len()), "seed {seed}");
            for (index, _) in scenario.sites.iter().enumerate() {
                let count = scenario.instances.iter().filter(|instance| instance.site == index).count();
                assert!((1..=4).contains(&count), "seed {seed}");
            }
            assert!(scenario.steps.is_sorted_by_key(|(at, _)| *at), "seed {seed}");
            let mut ids: Vec<String> = Vec::new();
            for (_, step) in &scenario.steps {
                if let Step::Capture { events, .. } = step {
                    ids.extend(events.iter().map(|event| event.id.clone()));
                }
            }
            ids.sort();
            ids.dedup();
            assert!((50..=400).contains(&ids.len()), "seed {seed}: {}", ids.len());
        }
    }

    #[test]
    fn the_seeds_reach_every_kind_of_fault_and_step() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let scenario = scenario(seed);
            for (_, step) in &scenario.steps {
                seen.insert(format!("{step:?}").split([' ', '{']).next().unwrap().to_owned());
            }
            for episode in scenario.instances.iter().flat_map(|instance| &instance.downstream.episodes) {
                seen.insert(format!("{:?}", episode.fault).split('(').next().unwrap().to_owned());
            }
        }
        assert_eq!(seen.len(), 10 + 14, "{seen:?}");
    }
}
