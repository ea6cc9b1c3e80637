//! What happens in a life beside events and changes. A further thing that may happen is a further variant: drawn in
//! [`draw`], brought about in [`Course::enact`](super::Course), and undone, where it must be, before the last life.

use fastrand::Rng;

use crate::fakes::Fault;

/// One life in so many has a downstream that fails for a while.
const FAILING: u8 = 3;
/// One life in so many begins with a credential that was revoked.
const REVOKED: u8 = 5;
/// One life in so many has a downstream that refuses some events for good.
const REFUSING: u8 = 4;
/// One life in so many has an operator who replays the dead letters.
const REPLAYED: u8 = 3;
/// One life in so many is backed up.
const BACKED_UP: u8 = 30;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// The downstream does this to its next requests.
    Failing {
        /// What.
        fault: Fault,
        /// How many requests.
        times: u64,
    },
    /// The downstream no longer believes the credential. The operator sees the pause and rotates.
    Revoked,
    /// The downstream refuses so many events for good: they become dead letters.
    Refusing(u64),
    /// The operator replays whatever dead letters there are.
    Replayed,
    /// A backup is taken of the running host, and a store made of it.
    BackedUp {
        /// The host is killed no earlier than the backup is complete.
        complete: bool,
    },
}

/// What happens in one life.
pub(super) fn draw(rng: &mut Rng) -> Vec<Happening> {
    let mut happenings = Vec::new();
    if rng.u8(0..FAILING) == 0 {
        let fault = match rng.u8(0..4) {
            0 => Fault::status(503),
            1 => Fault::Hang,
            2 => Fault::Reset,
            _ => Fault::Truncate,
        };
        // A request that hangs is one of the few that a lane has under way; four would leave none.
        let times = if fault == Fault::Hang { rng.u64(1..3) } else { rng.u64(1..6) };
        happenings.push(Happening::Failing { fault, times });
    }
    if rng.u8(0..REVOKED) == 0 {
        happenings.push(Happening::Revoked);
    }
    if rng.u8(0..REFUSING) == 0 {
        happenings.push(Happening::Refusing(rng.u64(1..20)));
    }
    if rng.u8(0..REPLAYED) == 0 {
        happenings.push(Happening::Replayed);
    }
    if rng.u8(0..BACKED_UP) == 0 {
        happenings.push(Happening::BackedUp { complete: rng.u8(0..3) > 0 });
    }
    happenings
}

/// How often what happened. A proof in which nothing happened has proved nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Met {
    /// Failing downstreams.
    pub(super) failing: u64,
    /// Revoked credentials.
    pub(super) revoked: u64,
    /// Lanes that the operator saw paused for one.
    pub(super) paused: u64,
    /// Rotations that were acknowledged.
    pub(super) rotated: u64,
    /// Replays of at least one letter that were acknowledged.
    pub(super) replayed: u64,
    /// The letters in them.
    pub(super) letters: u64,
    /// Stores that were made of a backup.
    pub(super) restored: u64,
}

impl Met {
    /// What did not happen although so many rounds leave no room for chance.
    pub(super) fn missing(self, rounds: u64) -> Option<&'static str> {
        let counts = [
            (self.failing, "no downstream failed"),
            (self.revoked, "no credential was revoked"),
            (self.paused, "no lane paused"),
            (self.rotated, "no credential was rotated"),
            (self.replayed, "no dead letter was replayed"),
            (self.restored, "no backup was restored"),
        ];
        let enough = rounds >= 300;
        counts.into_iter().find(|(count, _)| enough && *count == 0).map(|(_, what)| what)
    }
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { failing, revoked, paused, rotated, replayed, letters, restored } = self;
        write!(
            f,
            "failing downstreams {failing}, revoked credentials {revoked}, pauses seen {paused}, rotations {rotated}, \
             replays {replayed} of {letters} letters, restored backups {restored}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_happen_happens_in_two_hundred_lives() {
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let all: Vec<Happening> = (0..200).flat_map(|_| draw(&mut rng)).collect();
            assert!(all.contains(&Happening::Revoked) && all.contains(&Happening::Replayed), "seed {seed}");
            assert!(all.iter().any(|h| matches!(h, Happening::Refusing(_))), "seed {seed}");
            assert!(all.contains(&Happening::BackedUp { complete: true }), "seed {seed}");
            for word in ["status", "hang", "reset", "truncate"] {
                let met = |h: &Happening| matches!(h, Happening::Failing { fault, .. } if fault.as_str() == word);
                assert!(all.iter().any(met), "seed {seed}: {word}");
            }
        }
    }

    #[test]
    fn a_long_proof_in_which_something_never_happened_is_none() {
        let met = Met { failing: 3, revoked: 2, paused: 0, rotated: 1, replayed: 4, letters: 9, restored: 1 };
        assert_eq!(met.missing(300), Some("no lane paused"));
        assert_eq!(met.missing(5), None);
        assert_eq!(Met { paused: 1, ..met }.missing(300), None);
    }
}
