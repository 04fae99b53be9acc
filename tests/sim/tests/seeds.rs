//! Fresh seeds through the simulator: every checker holds, and the run reached what it must.

use cvp_sim::Counts;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds one after the other: what they reached together, and those that fail.
fn judge(seeds: impl Iterator<Item = u64>) -> (Counts, Vec<u64>) {
    let mut sum = Counts::default();
    let mut failed = Vec::new();
    for seed in seeds {
        match cvp_sim::run(seed) {
            Ok(counts) => sum.add(&counts),
            Err(failure) => {
                println!("CVP_SIM_SEED={seed} fails {failure}");
                failed.push(seed);
            }
        }
    }
    (sum, failed)
}

#[test]
fn seeds() {
    if let Some(seed) = number("CVP_SIM_SEED") {
        let counts = cvp_sim::run(seed);
        println!("seed {seed}: {counts:?}");
        assert!(counts.is_ok(), "CVP_SIM_SEED={seed}");
        return;
    }
    let fresh = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    let (first, count) = (
        number("CVP_SIM_FIRST").unwrap_or(fresh),
        number("CVP_SIM_SEEDS").unwrap_or(500),
    );
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let lanes: Vec<_> = (0..cores)
        .map(|lane| std::thread::spawn(move || judge((first + lane..first + count).step_by(cores as usize))))
        .collect();
    let mut sum = Counts::default();
    let mut failed = Vec::new();
    for lane in lanes {
        let (counts, seeds) = lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sum.add(&counts);
        failed.extend(seeds);
    }
    let reached: Vec<String> = sum
        .fields()
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("{count} seeds: {}", reached.join(", "));
    assert!(failed.is_empty(), "{} of {count} seeds fail: {failed:?}", failed.len());
    for (name, reached) in sum.fields() {
        assert!(*reached > 0 || count < 100, "no {name} in {count} seeds");
    }
}

#[test]
fn a_seed_replays() {
    let (one, two) = (cvp_sim::run(42), cvp_sim::run(42));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
}
