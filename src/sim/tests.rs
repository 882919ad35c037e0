use super::*;

#[test]
fn one_seed() {
    if let Ok(seed) = std::env::var("PADDOCK_SIM_SEED") {
        match run(seed.parse().unwrap()) {
            Ok(trace) => println!("{}\n{:#?}", trace.log, trace.tally),
            Err(failure) => panic!("{}\n{failure}", failure.log),
        }
    }
}

#[test]
fn scan() {
    let n: u64 = std::env::var("PADDOCK_SIM_SEEDS").map_or(200, |n| n.parse().unwrap());
    let mut why: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..n {
        match run(seed) {
            Ok(trace) => trace.tally.iter().for_each(|(k, v)| *tally.entry(k).or_default() += v),
            Err(failure) => {
                let key: String = failure.why.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
                why.entry(key).or_default().push(seed);
            }
        }
    }
    println!("{tally:#?}");
    for (k, v) in &why {
        println!("{} x {k}: {:?}", v.len(), &v[..v.len().min(12)]);
    }
    assert!(why.is_empty());
}
