//! Throws bytes at `parti` for a while: the committed seeds, then changes of them, as a seed of chance decides.

use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use parti_fuzz::{TARGETS, Target, mutate};
use parti_sim::Rng;

/// Throws bytes at `parti`: the committed seeds first, then changes of them by chance. Exit codes: 0 nothing found, 1 an
/// input was found at which a target panics, 2 usage.
#[derive(Debug, Parser)]
#[command(name = "parti-fuzz", version)]
struct Cli {
    /// Which target; all, one after the other, if none is named.
    #[arg(value_parser = TARGETS.map(|target| target.name))]
    target: Option<String>,
    /// Throw this file at the target, and nothing else.
    #[arg(requires = "target")]
    input: Option<PathBuf>,
    /// For how long, for each target.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Decides how the seeds are changed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "parti-fuzz: {error}"); // nobody is left to tell if this fails
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> io::Result<u8> {
    let chosen = TARGETS.into_iter().filter(|target| cli.target.as_deref().is_none_or(|name| name == target.name));
    if let Some(path) = &cli.input {
        let input = read(path)?;
        chosen.for_each(|target| (target.run)(&input)); // its panic says all
        return Ok(0);
    }
    let mut out = io::stdout().lock();
    for target in chosen {
        let seeds = seeds(target)?;
        let began = Instant::now();
        let (thrown, found) = throw(target, &seeds, cli);
        let took = began.elapsed().as_secs_f64();
        writeln!(out, "{:<12}{thrown:>10} inputs from {} seeds in {took:.1} s", target.name, seeds.len())?;
        if let Some(input) = found {
            let path = keep(target, &input)?;
            writeln!(out, "it panics at {}", path.display())?;
            writeln!(out, "repeat it: cargo run -p parti-fuzz -- {} {}", target.name, path.display())?;
            return Ok(1);
        }
    }
    Ok(0)
}

/// How many inputs were thrown, and the one at which the target panics.
fn throw(target: Target, seeds: &[Vec<u8>], cli: &Cli) -> (u64, Option<Vec<u8>>) {
    let mut rng = Rng::for_purpose(cli.seed, target.name);
    let until = Instant::now() + Duration::from_secs(cli.seconds);
    let changed = std::iter::from_fn(|| (Instant::now() < until).then(|| mutate(&mut rng, seeds)));
    let mut thrown = 0;
    for input in seeds.iter().cloned().chain(changed) {
        thrown += 1;
        if panic::catch_unwind(|| (target.run)(&input)).is_err() {
            return (thrown, Some(input));
        }
    }
    (thrown, None)
}

/// The committed seeds of a target, in order of their names.
fn seeds(target: Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let mut paths: Vec<_> =
        folder.read_dir()?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Writes an input to a file below `target`.
fn keep(target: Target, input: &[u8]) -> io::Result<PathBuf> {
    let folder = Path::new("target").join("fuzz");
    std::fs::create_dir_all(&folder)?;
    let mut hash = Rng::new(input.iter().fold(0, |hash: u64, byte| hash.rotate_left(7) ^ u64::from(*byte)));
    let path = folder.join(format!("{}-{:016x}", target.name, hash.next_u64()));
    std::fs::write(&path, input)?;
    Ok(path)
}
