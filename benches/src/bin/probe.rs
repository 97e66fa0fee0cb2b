//! scratch
use parti_benches::*;
use parti_core::assign::Balanced;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let p: usize = a[1].parse().unwrap();
    let w: u32 = a[2].parse().unwrap();
    let we = match a[3].as_str() {
        "e" => Weights::Equal,
        "t" => Weights::TenthFivefold,
        _ => Weights::HundredthFortyfold,
    };
    let ev = Event::ALL[a[4].parse::<usize>().unwrap()];
    let n: usize = a[5].parse().unwrap();
    let c = Case::new(Size { partitions: p, workers: w }, we, ev);
    let mut best = u128::MAX;
    for _ in 0..n {
        let t = std::time::Instant::now();
        let x = c.plan(&Balanced);
        best = best.min(t.elapsed().as_nanos());
        std::hint::black_box(x);
    }
    println!("{:.2} ns/partition", best as f64 / p as f64);
}
