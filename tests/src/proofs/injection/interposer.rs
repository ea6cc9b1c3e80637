//! The shared object that counts a host's changes of its store's folder, and hits one of them (`interpose.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::kind::Kind;
use crate::host::HostFolder;

const SOURCE: &str = include_str!("interpose.c");
/// What provides a C compiler.
const ADVICE: &str = "it is compiled with a C compiler; install one with: apt-get install -y gcc libc6-dev";

/// The compiled interposer.
#[derive(Debug, Clone)]
pub struct Interposer {
    library: PathBuf,
}

/// The point to hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// What happens there.
    pub kind: Kind,
    /// Which one of the calls that can come to this harm, from 1.
    pub at: u64,
}

impl Interposer {
    /// Compiles it into a folder.
    ///
    /// # Errors
    /// When there is no C compiler (the error names the command that provides one) or it refuses the source.
    pub fn compile(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        let (source, library) = (folder.join("interpose.c"), folder.join("interpose.so"));
        fs::write(&source, SOURCE)?;
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .output()
            .with_context(|| format!("cc cannot be run for the interposer; {ADVICE}"))?;
        if !output.status.success() {
            bail!("cc refuses {}; {ADVICE}\n{}", source.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self { library })
    }

    /// The environment that loads it and has it write every point into `log`.
    pub(super) fn environment(&self, folder: &HostFolder, log: &Path) -> [(&'static str, PathBuf); 3] {
        [("LD_PRELOAD", self.library.clone()), ("INJECT_FOLDER", folder.store()), ("INJECT_LOG", log.to_path_buf())]
    }

    /// A host whose points are written into `log`, and that is hit at the shot if there is one.
    #[must_use]
    pub fn arm(&self, folder: &HostFolder, log: &Path, shot: Option<Shot>) -> HostFolder {
        let mut armed = folder.clone();
        for (name, value) in self.environment(folder, log) {
            armed = armed.with_environment(name, &value.to_string_lossy());
        }
        match shot {
            None => armed,
            Some(Shot { kind, at }) => {
                armed.with_environment("INJECT_KIND", kind.as_str()).with_environment("INJECT_AT", &at.to_string())
            }
        }
    }
}

/// One call that changes the store's folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The call.
    pub call: String,
    /// Its bytes or length; 0 when it has none.
    pub bytes: u64,
    /// The path within the store's folder; `.` for the folder.
    pub path: String,
}

/// The point that was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The point.
    pub point: Point,
    /// When.
    pub at: SystemTime,
}

/// What the interposer has written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Every point, in order.
    pub points: Vec<Point>,
    /// The one that was hit.
    pub hit: Option<Hit>,
}

impl Trace {
    /// Reads a log; none is there when the program made no point.
    ///
    /// # Errors
    /// When it is not the interposer's.
    pub fn read(log: &Path) -> Result<Self> {
        if !log.exists() {
            return Ok(Self::default());
        }
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        Self::parse(&text).with_context(|| format!("{} is not the interposer's", log.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut trace = Self::default();
        for line in text.lines() {
            match line.strip_prefix("HIT ") {
                None => trace.points.push(point(line)?),
                Some(hit) => {
                    let mut words = hit.splitn(3, ' ').skip(1);
                    let nanoseconds: u64 = words.next().context("a hit without a time")?.parse()?;
                    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
                    trace.hit = Some(Hit { point: point(words.next().context("a hit without a point")?)?, at });
                }
            }
        }
        Ok(trace)
    }
}

fn point(line: &str) -> Result<Point> {
    let mut words = line.splitn(3, ' ');
    let (Some(call), Some(bytes), Some(path)) = (words.next(), words.next(), words.next()) else {
        bail!("no point: {line:?}");
    };
    Ok(Point { call: call.to_owned(), bytes: bytes.parse()?, path: path.to_owned() })
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bytes {
            0 => write!(f, "{} {}", self.call, self.path),
            bytes => write!(f, "{} {} ({bytes} bytes)", self.call, self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::process::Command;

    use super::*;

    #[test]
    fn a_log_is_read_with_its_hit() {
        let trace = Trace::parse("open 0 lock\nHIT eio 1500000000 write 5 a b\nwrite 5 a b\n").unwrap();
        let point = Point { call: "write".to_owned(), bytes: 5, path: "a b".to_owned() };
        assert_eq!(trace.points, [Point { call: "open".to_owned(), bytes: 0, path: "lock".to_owned() }, point.clone()]);
        assert_eq!(point.to_string(), "write a b (5 bytes)");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(trace.hit, Some(Hit { point, at }));
        assert!(Trace::parse("something else").is_err());
    }

    /// What `dd` says when its third call that changes the folder comes to harm, and what it has written.
    fn harmed(kind: Kind) -> (std::process::Output, Vec<u8>, Trace) {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        let log = folder.path().join("log");
        let interposer = Interposer::compile(folder.path()).unwrap();
        let at = if kind == Kind::Eio || kind == Kind::Kill || kind == Kind::Enospc { "3" } else { "2" };
        let output = Command::new("dd")
            .args(["if=/dev/zero", "bs=8", "count=3", "status=none", "conv=fsync"])
            .arg(format!("of={}", store.join("file").display()))
            .env("LD_PRELOAD", &interposer.library)
            .env("INJECT_FOLDER", &store)
            .env("INJECT_LOG", &log)
            .env("INJECT_KIND", kind.as_str())
            .env("INJECT_AT", at)
            .output()
            .unwrap();
        (output, fs::read(store.join("file")).unwrap(), Trace::read(&log).unwrap())
    }

    #[test]
    fn each_kind_does_its_harm_to_a_real_program() {
        use std::os::unix::process::ExitStatusExt as _;
        // dd opens the file, writes three times eight bytes, and syncs.
        for (kind, written, killed) in [
            (Kind::Kill, 8, true),
            (Kind::KillHalf, 12, true),
            (Kind::Eio, 8, false),
            (Kind::Enospc, 8, false),
            (Kind::Short, 24, false),
            (Kind::HalfFull, 12, false),
        ] {
            let (output, bytes, trace) = harmed(kind);
            assert_eq!(bytes.len(), written, "{kind}: {output:?}");
            assert_eq!(output.status.signal(), killed.then_some(9), "{kind}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if let Some(error) = kind.error() {
                assert!(said.contains(error) && !output.status.success(), "{kind}: {said}");
            }
            let hit = trace.hit.unwrap();
            assert_eq!((hit.point.call.as_str(), hit.point.path.as_str()), ("write", "file"), "{kind}");
        }
    }
}
