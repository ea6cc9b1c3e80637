//! The policy of fair shares: who is next. Pure: a data structure without async and without time.
//!
//! Round robin by site, then by instance within the site, first come, first served within an instance. Every operation costs
//! O(log n); a site or an instance that holds nothing and waits for nothing is not there.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// How much there is, and how much of it one may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Permits in all.
    pub(crate) capacity: usize,
    /// The most that one site holds, whether or not others wait: what is left is there when they come.
    pub(crate) per_site: usize,
    /// The most that one instance holds.
    pub(crate) per_instance: usize,
}

impl Shares {
    /// Shares of the host's invocations: no site holds more than half of them, and no instance more than half of that.
    pub(crate) fn of(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let per_site = capacity.div_ceil(2);
        Self { capacity, per_site, per_instance: per_site.div_ceil(2) }
    }
}

/// Members in the order in which their turns come. A member knows its place, so that it can leave.
#[derive(Debug)]
struct Ring<K>(BTreeMap<u64, K>);

impl<K> Default for Ring<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone> Ring<K> {
    /// Puts a member in at the end, or takes it out, so that it is in exactly if it should be.
    fn set(&mut self, member: bool, place: &mut Option<u64>, key: &K, clock: &mut u64) {
        if !member {
            self.remove(place);
        } else if place.is_none() {
            *clock += 1;
            *place = Some(*clock);
            self.0.insert(*clock, key.clone());
        }
    }

    fn remove(&mut self, place: &mut Option<u64>) {
        if let Some(place) = place.take() {
            self.0.remove(&place);
        }
    }

    /// Whose turn it is.
    fn first(&self) -> Option<&K> {
        self.0.first_key_value().map(|(_, key)| key)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug)]
struct Site<I, W> {
    held: usize,
    instances: HashMap<I, Instance<W>>,
    /// The instances that wait and may have more.
    ring: Ring<I>,
    place: Option<u64>,
}

#[derive(Debug)]
struct Instance<W> {
    held: usize,
    /// By ticket: first come, first served.
    waiting: BTreeMap<u64, W>,
    place: Option<u64>,
}

/// Who holds permits and who waits. `W` is whatever stands for a waiter.
#[derive(Debug)]
pub(crate) struct FairQueue<S, I, W> {
    shares: Shares,
    held: usize,
    sites: HashMap<S, Site<I, W>>,
    /// The sites that wait and may have more.
    ring: Ring<S>,
    /// Numbers tickets and places.
    clock: u64,
}

impl<S: Clone + Eq + Hash, I: Clone + Eq + Hash, W> FairQueue<S, I, W> {
    /// No permits held, nobody waiting. A share of nothing would be waited for without end, so each is at least one.
    pub(crate) fn new(shares: Shares) -> Self {
        let shares = Shares {
            capacity: shares.capacity.max(1),
            per_site: shares.per_site.max(1),
            per_instance: shares.per_instance.max(1),
        };
        Self { shares, held: 0, sites: HashMap::new(), ring: Ring::default(), clock: 0 }
    }

    /// Takes a permit if nobody has to be waited for.
    pub(crate) fn try_take(&mut self, site: &S, instance: &I) -> bool {
        // After every operation all that can be granted has been granted: who could have more is in the ring only while
        // nothing is free. So whoever finds something free under its caps overtakes nobody.
        let known = self.sites.get(site);
        let of_site = known.map_or(0, |site| site.held);
        let of_instance = known.and_then(|site| site.instances.get(instance)).map_or(0, |instance| instance.held);
        let free = self.held < self.shares.capacity
            && of_site < self.shares.per_site
            && of_instance < self.shares.per_instance;
        if free {
            self.held += 1;
            self.change(site, instance, false, |of_site, instance| {
                *of_site += 1;
                instance.held += 1;
            });
        }
        free
    }

    /// Waits for a permit. The ticket is for leaving again.
    pub(crate) fn join(&mut self, site: &S, instance: &I, waiter: W) -> u64 {
        self.clock += 1;
        let ticket = self.clock;
        self.change(site, instance, false, |_, instance| {
            instance.waiting.insert(ticket, waiter);
        });
        ticket
    }

    /// Gives a place in the queue up. `None` when its turn has come meanwhile.
    pub(crate) fn leave(&mut self, site: &S, instance: &I, ticket: u64) -> Option<W> {
        let mut waiter = None;
        self.change(site, instance, false, |_, instance| waiter = instance.waiting.remove(&ticket));
        waiter
    }

    /// Takes a permit back, and grants one to whose turn it is; `None` when nobody who waits may have more. There can be no
    /// second one to grant: either one permit is free now, or only this site or this instance is one below its cap.
    pub(crate) fn release(&mut self, site: &S, instance: &I) -> Option<(S, I, W)> {
        self.held = self.held.saturating_sub(1);
        self.change(site, instance, false, |of_site, instance| {
            *of_site = of_site.saturating_sub(1);
            instance.held = instance.held.saturating_sub(1);
        });
        self.grant()
    }

    /// Grants one permit to whose turn it is.
    fn grant(&mut self) -> Option<(S, I, W)> {
        if self.held >= self.shares.capacity {
            return None;
        }
        let site = self.ring.first()?.clone();
        let instance = self.sites.get(&site)?.ring.first()?.clone();
        let mut granted = None;
        self.held += 1;
        self.change(&site, &instance, true, |of_site, instance| {
            granted = instance.waiting.pop_first();
            *of_site += 1;
            instance.held += 1;
        });
        granted.map(|(_, waiter)| (site, instance, waiter))
    }

    /// Changes what a site holds and an instance, and puts the rings right. Whoever was served goes to the end of its ring.
    fn change(
        &mut self,
        site_id: &S,
        instance_id: &I,
        served: bool,
        change: impl FnOnce(&mut usize, &mut Instance<W>),
    ) {
        let Self { shares, sites, ring, clock, .. } = self;
        let site = sites.entry(site_id.clone()).or_insert_with(|| Site {
            held: 0,
            instances: HashMap::new(),
            ring: Ring::default(),
            place: None,
        });
        let instance = site.instances.entry(instance_id.clone()).or_insert_with(|| Instance {
            held: 0,
            waiting: BTreeMap::new(),
            place: None,
        });
        change(&mut site.held, instance);
        if served {
            site.ring.remove(&mut instance.place);
            ring.remove(&mut site.place);
        }
        let more = instance.held < shares.per_instance && !instance.waiting.is_empty();
        site.ring.set(more, &mut instance.place, instance_id, clock);
        if instance.held == 0 && instance.waiting.is_empty() {
            site.instances.remove(instance_id);
        }
        let more = site.held < shares.per_site && !site.ring.is_empty();
        ring.set(more, &mut site.place, site_id, clock);
        if site.instances.is_empty() {
            sites.remove(site_id);
        }
    }
}

#[cfg(test)]
impl<S, I, W> FairQueue<S, I, W> {
    /// Permits held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether nobody holds or waits for anything, and nothing is kept of those who did.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0 && self.sites.is_empty() && self.ring.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    const SITES: usize = 4;
    const INSTANCES: usize = 3;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Come { site: usize, instance: usize },
        Cancel(prop::sample::Index),
        Release(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Sites of very different appetite.
        let site = prop_oneof![8 => Just(0_usize), 2 => Just(1), 1 => 0..SITES];
        let step = prop_oneof![
            5 => (site, 0..INSTANCES).prop_map(|(site, instance)| Step::Come { site, instance }),
            1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            4 => any::<prop::sample::Index>().prop_map(Step::Release),
        ];
        prop::collection::vec(step, 1..400)
    }

    fn shares() -> impl Strategy<Value = Shares> {
        (1_usize..12, 1_usize..8, 1_usize..5).prop_map(|(capacity, per_site, per_instance)| Shares {
            capacity,
            per_site,
            per_instance,
        })
    }

    /// Who waits, as the test sees it.
    #[derive(Debug)]
    struct Waiter {
        site: usize,
        instance: usize,
        ticket: u64,
        ahead: usize,
        /// Permits that others got although this one could have had them under its own caps.
        passed_over: usize,
    }

    /// The queue beside a list of who holds what and who waits.
    struct Model {
        queue: FairQueue<usize, (usize, usize), ()>,
        shares: Shares,
        held: Vec<(usize, usize)>,
        /// In the order in which they came.
        waiting: Vec<Waiter>,
    }

    impl Model {
        fn new(shares: Shares) -> Self {
            Self { queue: FairQueue::new(shares), shares, held: Vec::new(), waiting: Vec::new() }
        }

        fn under_its_caps(&self, site: usize, instance: usize) -> bool {
            self.held.iter().filter(|held| held.0 == site).count() < self.shares.per_site
                && self.held.iter().filter(|held| **held == (site, instance)).count() < self.shares.per_instance
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Come { site, instance } => {
                    if self.queue.try_take(&site, &(site, instance)) {
                        self.held.push((site, instance));
                    } else {
                        let ticket = self.queue.join(&site, &(site, instance), ());
                        let same = |waiter: &&Waiter| (waiter.site, waiter.instance) == (site, instance);
                        let ahead = self.waiting.iter().filter(same).count();
                        self.waiting.push(Waiter { site, instance, ticket, ahead, passed_over: 0 });
                    }
                }
                Step::Cancel(index) if !self.waiting.is_empty() => {
                    let waiter = self.waiting.remove(index.index(self.waiting.len()));
                    let left = self.queue.leave(&waiter.site, &(waiter.site, waiter.instance), waiter.ticket);
                    assert_eq!(left, Some(()));
                }
                Step::Release(index) if !self.held.is_empty() => {
                    let returned = self.held.remove(index.index(self.held.len()));
                    self.release(returned);
                }
                _ => {}
            }
            self.check();
        }

        fn release(&mut self, (site, instance): (usize, usize)) {
            let could: Vec<bool> =
                self.waiting.iter().map(|waiter| self.under_its_caps(waiter.site, waiter.instance)).collect();
            let Some((site, (_, instance), ())) = self.queue.release(&site, &(site, instance)) else { return };
            let same = |waiter: &Waiter| (waiter.site, waiter.instance) == (site, instance);
            let served = self.waiting.iter().position(same).expect("a permit is granted to one who waits");
            for (place, (waiter, could)) in self.waiting.iter_mut().zip(could).enumerate() {
                waiter.passed_over += usize::from(could && place != served);
            }
            self.waiting.remove(served);
            self.held.push((site, instance));
        }

        fn check(&self) {
            assert!(self.held.len() <= self.shares.capacity);
            assert_eq!(self.queue.held(), self.held.len());
            for held in &self.held {
                assert!(self.held.iter().filter(|other| other.0 == held.0).count() <= self.shares.per_site);
                assert!(self.held.iter().filter(|other| *other == held).count() <= self.shares.per_instance);
            }
            for waiter in &self.waiting {
                let idle = self.held.len() < self.shares.capacity && self.under_its_caps(waiter.site, waiter.instance);
                assert!(!idle, "something is free that {waiter:?} could have");
                // Its site gets at least every SITES-th permit, its instance every INSTANCES-th of those. What it loses
                // besides is its place in a ring, once each time that it was served up to a cap.
                let most = SITES * (INSTANCES + 1) * (waiter.ahead + 2);
                assert!(waiter.passed_over <= most, "{waiter:?} starves");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn nobody_starves_nothing_idles_and_no_cap_is_exceeded(shares in shares(), steps in steps()) {
            let mut model = Model::new(shares);
            for step in steps {
                model.step(step);
            }
            // Everybody who waits is served in the end, and nothing is kept of them.
            while let Some(returned) = model.held.pop() {
                model.release(returned);
                model.check();
            }
            prop_assert!(model.waiting.is_empty());
            prop_assert!(model.queue.is_empty());
        }
    }

    #[test]
    fn turns_go_round_by_site_then_by_instance_and_in_order_within_an_instance() {
        let mut queue = FairQueue::new(Shares { capacity: 1, per_site: 1, per_instance: 1 });
        assert!(queue.try_take(&"z", &"z1"));
        for (site, instance, name) in [
            ("a", "a1", "a1-first"),
            ("a", "a1", "a1-second"),
            ("a", "a1", "a1-third"),
            ("a", "a2", "a2-first"),
            ("b", "b1", "b1-first"),
            ("b", "b1", "b1-second"),
        ] {
            queue.join(&site, &instance, name);
        }
        let (mut last, mut served) = (("z", "z1"), Vec::new());
        for _ in 0..6 {
            let (site, instance, name) = queue.release(&last.0, &last.1).unwrap();
            served.push(name);
            last = (site, instance);
        }
        assert_eq!(served, ["a1-first", "b1-first", "a2-first", "b1-second", "a1-second", "a1-third"]);
    }

    #[test]
    fn what_a_site_may_not_have_is_left_for_the_next_that_comes() {
        let mut queue: FairQueue<_, _, ()> = FairQueue::new(Shares { capacity: 4, per_site: 2, per_instance: 2 });
        assert!(queue.try_take(&"a", &"a1"));
        assert!(queue.try_take(&"a", &"a1"));
        assert!(!queue.try_take(&"a", &"a2"));
        queue.join(&"a", &"a2", ());
        assert!(queue.try_take(&"b", &"b1"), "it waits for nobody");
        assert_eq!(queue.release(&"b", &"b1"), None);
        assert_eq!(queue.release(&"a", &"a1"), Some(("a", "a2", ())));
    }
}
