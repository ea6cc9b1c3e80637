//! The claim: a credential is where it was sent, and nowhere else.
//!
//! Random secrets go out through every scheme to a downstream that sends them back in bodies, headers and error texts, by a
//! component that repeats them wherever it can say something. Then everything that anybody could look at is searched for
//! twelve encodings of each: components' memory, the API's answers, the log, the store's files, exports and backups.
//!
//! The search must show that it finds: in every place a planted secret is found, in places where a downstream's text
//! belongs a decoy is found that came the same way as the secrets, and every secret has been seen by the downstream.

mod answers;
mod encodings;
mod files;
mod mirror;
mod release;
mod scene;
mod scheme;
mod search;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use fastrand::Rng;

use self::encodings::ENCODINGS;
use self::mirror::{Holder, Mirror};
use self::scene::Scene;
use self::scheme::{SCHEMES, token};
use self::search::{Places, Search};

/// Where a component's memory was searched.
const MEMORY: (&str, bool) = ("memory of components", true);

/// What to prove.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many secrets.
    pub secrets: usize,
    /// Decides the secrets.
    pub seed: u64,
    /// The folder of everything; emptied first, removed after a success.
    pub folder: PathBuf,
}

/// What was found. Its text is the proof's closing line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Secrets that were sent.
    pub secrets: usize,
    /// Places that were searched.
    pub places: usize,
    /// Places that hold a secret.
    pub found: usize,
    /// What keeps the claim from holding, in words.
    pub complaints: Vec<String>,
}

impl Figures {
    /// Whether the claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.found == 0 && self.complaints.is_empty() && self.secrets > 0 && self.places > 0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secrets, places, found, .. } = self;
        write!(f, "secrets {secrets}, encodings {}, places {places}, found {found}", ENCODINGS.len())
    }
}

/// Runs the proof.
///
/// # Errors
/// When it could not be carried out: something is not built, or the host does not do what is asked of it.
pub async fn run(plan: &Plan, mut say: impl FnMut(&str)) -> Result<Figures> {
    if plan.folder.exists() {
        fs::remove_dir_all(&plan.folder).context("the folder of the run cannot be emptied")?;
    }
    fs::create_dir_all(&plan.folder)?;
    let mut rng = Rng::with_seed(plan.seed);
    let holders = holders(plan.secrets, &mut rng);
    let parts: Vec<_> = holders
        .iter()
        .flat_map(|holder| holder.secrets.iter().map(|(_, secret)| (holder.scheme.parts)(secret)))
        .collect();
    let search = Arc::new(Search::new(&parts, token(&mut rng).as_bytes())?);
    let decoy = format!("decoy-{:016x}", rng.u64(..));
    let mirror = Mirror::new(holders, search.clone(), &decoy, rng.u64(..));
    let mut places = Places::new(&search, &decoy, rng.u64(..));

    let started = Instant::now();
    let scene = Scene::start(&plan.folder, mirror.clone(), &decoy).await?;
    say(&format!("{} instances configured after {:.0?}", scene.count(), started.elapsed()));
    let mut events = scene.post("before", &["dump-200", "status-422", "status-302", "status-409", "once-500"]).await?;
    scene.settled().await?;
    scene.rotate().await?;
    events.extend(scene.post("after", &["dump-200", "status-422"]).await?);
    scene.settled().await?;
    events.extend(scene.post("last", &["status-401"]).await?);
    scene.paused().await?;
    say(&format!("every secret sent after {:.0?}", started.elapsed()));

    answers::search(&scene, &events, &mut places).await?;
    files::search_running(&scene, &plan.folder, &mut places).await?;
    let Scene { folder: host_folder, host, .. } = scene;
    host.stop().await?;
    files::search_stopped(&host_folder, &plan.folder, &mut places).await?;
    let (memory, hits) = mirror.memory();
    places.take(MEMORY.0, memory, &hits);
    say(&format!("everything searched after {:.0?}", started.elapsed()));
    for (kind, searched) in places.kinds() {
        say(&format!("{kind}: {} places, {} bytes", searched.places, searched.bytes));
    }

    let expected: Vec<_> = answers::KINDS.into_iter().chain(files::KINDS).chain([MEMORY]).collect();
    let mut complaints = places.complaints(&expected);
    let (arrived, strangers) = mirror.arrivals();
    if arrived != plan.secrets || strangers > 0 {
        complaints.push(format!(
            "{arrived} of {} secrets arrived at the downstream, and {strangers} requests came without one",
            plan.secrets
        ));
    }
    complaints.iter().for_each(|complaint| say(complaint));
    let figures = Figures { secrets: arrived, places: places.places(), found: places.found(), complaints };
    if figures.holds() {
        fs::remove_dir_all(&plan.folder).context("the folder of the run cannot be removed")?;
    }
    Ok(figures)
}

/// An instance for every two secrets, the schemes in turn: the second is what it is rotated to.
fn holders(secrets: usize, rng: &mut Rng) -> Vec<Holder> {
    let mut numbers = 0..secrets;
    let mut holders = Vec::new();
    for scheme in SCHEMES.iter().cycle() {
        let secrets: Vec<_> = numbers.by_ref().take(2).map(|number| (number, (scheme.make)(rng))).collect();
        if secrets.is_empty() {
            break;
        }
        holders.push(Holder { scheme, secrets });
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_has_one_instance_and_every_scheme_its_share() {
        let holders = holders(1001, &mut Rng::with_seed(1));
        assert_eq!(holders.iter().map(|holder| holder.secrets.len()).sum::<usize>(), 1001);
        for scheme in &SCHEMES {
            let count = holders.iter().filter(|holder| holder.scheme.name == scheme.name).count();
            assert!(count >= 100, "{}", scheme.name);
        }
    }

    #[test]
    fn the_closing_line_says_what_was_found() {
        let figures = Figures { secrets: 1000, places: 12, found: 0, complaints: Vec::new() };
        assert_eq!(figures.to_string(), "secrets 1000, encodings 12, places 12, found 0");
        assert!(figures.holds());
        assert!(!Figures { found: 1, ..figures.clone() }.holds());
        assert!(!Figures { complaints: vec!["no".to_owned()], ..figures }.holds());
    }
}
