//! Every committed seed is fine, and so are some changes of each.

use parti_fuzz::{TARGETS, mutate};
use parti_sim::Rng;

/// How many changed inputs each target gets here; `cargo run -p parti-fuzz` goes on for as long as it is told to.
const CHANGED: usize = 40;

#[test]
fn every_seed_passes_and_so_do_changes_of_it() {
    for target in TARGETS {
        let folder = format!("{}/seeds/{}", env!("CARGO_MANIFEST_DIR"), target.name);
        let paths = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let seeds: Vec<_> = paths.map(|path| std::fs::read(path.expect("an entry").path()).expect("a file")).collect();
        assert!(!seeds.is_empty(), "{folder} has seeds");
        let mut rng = Rng::new(1);
        let changed = (0..CHANGED).map(|_| mutate(&mut rng, &seeds)).collect::<Vec<_>>();
        for input in seeds.iter().chain(&changed) {
            (target.run)(input);
        }
    }
}
