//! The pictures of the book are drawn by the simulator: who was at work on which partition, and when nobody was. What is kept
//! must show the same as what is drawn now.
//!
//! `BLESS=1 cargo test -p parti-book pictures` draws them anew.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use parti_sim::kit::{Cluster, Failure};

use crate::page::root;

const WORKERS: u32 = 4;
const PARTITIONS: usize = 16;
/// How far apart two looks are.
const STEP: Duration = Duration::from_millis(100);
/// A colour for each worker, which people who do not see all colours can tell apart (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const LEFT: usize = 84;
const TOP: usize = 46;
const ROW: usize = 11;
const WIDTH: usize = 720;

/// What happens, the moments to be named in the picture included.
type Act = fn(&mut Cluster) -> Result<Vec<(Duration, String)>, Failure>;

const PICTURES: [(&str, &str, Act); 4] = [
    ("rolling-update", "A rolling update: each worker restarts in turn, and keeps what it has", rolling_update),
    ("crash", "A crash: others take over what the crashed worker had, and nothing else moves", crash),
    ("scale-up", "Two workers more: each takes a share, in two rounds", scale_up),
    ("outage", "NATS is away for 15 s: all work pauses, and goes on where it was", outage),
];

#[test]
fn the_pictures_of_the_book_are_what_the_simulator_draws() {
    for (name, title, act) in PICTURES {
        let drawn = picture(title, act).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        let path = root().join(format!("docs/src/pictures/{name}.svg"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &drawn).expect("written");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let is_same = bars(&kept).len() == bars(&drawn).len()
            && bars(&kept).iter().zip(bars(&drawn)).all(|(kept, drawn)| kept.is_like(&drawn));
        assert!(is_same && !drawn.is_empty(), "{} is not what is drawn: BLESS=1 draws it anew", path.display());
    }
}

/// One bar of a picture: who was at work on one partition, and for how long.
#[derive(Debug)]
struct Bar {
    row: usize,
    colour: String,
    left: usize,
    right: usize,
}

impl Bar {
    /// Whether both show the same: by the same worker, begun and ended at about the same time, since moments are a matter of
    /// chance.
    fn is_like(&self, other: &Self) -> bool {
        let near = |one: usize, two: usize| one.abs_diff(two) <= WIDTH / 15;
        let same_place = self.row == other.row && self.colour == other.colour;
        same_place && near(self.left, other.left) && near(self.right, other.right)
    }
}

fn bars(svg: &str) -> Vec<Bar> {
    let bar = |line: &str| {
        let mut values = line.strip_prefix("<rect ")?.split('"').skip(1).step_by(2);
        let mut number = || values.next()?.parse::<usize>().ok();
        let (left, row, width, _height) = (number()?, number()?, number()?, number()?);
        Some(Bar { row, colour: values.next()?.to_owned(), left, right: left + width })
    };
    svg.lines().filter_map(bar).collect()
}

fn names() -> impl Iterator<Item = String> {
    (0..PARTITIONS).map(|number| format!("orders-{number}"))
}

fn picture(title: &str, act: Act) -> Result<String, Failure> {
    let mut cluster = Cluster::of(WORKERS).partition_ids(names()).drain_time(|_| Duration::from_millis(300)).start()?;
    cluster.settle()?;
    let from = cluster.now();
    cluster.run_for(Duration::from_secs(3))?;
    let moments = act(&mut cluster)?;
    cluster.run_for(Duration::from_secs(3))?;
    let until = cluster.now();
    draw(&cluster, title, (from, until), &moments)
}

fn rolling_update(cluster: &mut Cluster) -> Result<Vec<(Duration, String)>, Failure> {
    let mut moments = Vec::new();
    for worker in cluster.running().into_iter().rev() {
        moments.push((cluster.now(), format!("restarts worker-{worker}")));
        cluster.restart(worker, Duration::from_secs(2))?;
        cluster.run_for(Duration::from_secs(6))?;
    }
    Ok(moments)
}

fn crash(cluster: &mut Cluster) -> Result<Vec<(Duration, String)>, Failure> {
    let victim = cluster.running().into_iter().find(|worker| Some(*worker) != cluster.leader()).unwrap_or_default();
    let moments = vec![(cluster.now(), format!("kills worker-{victim}"))];
    cluster.crash(victim)?;
    cluster.run_for(Duration::from_secs(6))?;
    Ok(moments)
}

fn scale_up(cluster: &mut Cluster) -> Result<Vec<(Duration, String)>, Failure> {
    let moments = vec![(cluster.now(), "adds two workers".to_owned())];
    cluster.add_workers(2)?;
    cluster.run_for(Duration::from_secs(28))?;
    Ok(moments)
}

fn outage(cluster: &mut Cluster) -> Result<Vec<(Duration, String)>, Failure> {
    let moments = vec![(cluster.now(), "NATS is gone".to_owned())];
    cluster.outage(Duration::from_secs(15));
    cluster.run_for(Duration::from_secs(20))?;
    Ok(moments)
}

fn draw(
    cluster: &Cluster,
    title: &str,
    (from, until): (Duration, Duration),
    moments: &[(Duration, String)],
) -> Result<String, Failure> {
    let span = until.saturating_sub(from).as_millis();
    let x = |at: Duration| {
        LEFT + usize::try_from(at.saturating_sub(from).as_millis() * WIDTH as u128 / span).unwrap_or(WIDTH)
    };
    let bottom = TOP + PARTITIONS * ROW;
    let (width, height) = (LEFT + WIDTH + 10, bottom + 46);
    // Greys and colours that can be read on white and on black alike.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"9\" fill=\"#888\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
         <text x=\"{LEFT}\" y=\"13\" font-size=\"12\">{title}</text>\n"
    );
    for (row, name) in names().enumerate() {
        let y = TOP + row * ROW;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>", LEFT - 6, y + 8);
        for (begin, end, owner) in segments(cluster, &name, from, until)? {
            let colour = COLOURS[owner as usize % COLOURS.len()];
            let (left, right) = (x(begin), x(end));
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
                right - left,
                ROW - 1
            );
        }
    }
    for (at, what) in moments {
        let at = x(*at);
        let _ = writeln!(
            svg,
            "<path d=\"M{at} {}V{bottom}\" stroke=\"#888\" stroke-dasharray=\"3 2\"/>\n<text x=\"{}\" y=\"{}\">{what}</text>",
            TOP - 12,
            at + 3,
            TOP - 5
        );
    }
    for second in (0..=u64::try_from(span / 1_000).unwrap_or_default()).step_by(5) {
        let at = x(from + Duration::from_secs(second));
        let _ = writeln!(svg, "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{second} s</text>", bottom + 13);
    }
    for worker in 0..cluster.running().iter().max().map_or(WORKERS, |last| (last + 1).max(WORKERS)) {
        let (left, y) = (LEFT + worker as usize * 84, bottom + 24);
        let colour = COLOURS[worker as usize % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n<text x=\"{}\" y=\"{}\">worker-{worker}</text>",
            left + 14,
            y + 8
        );
    }
    let _ =
        writeln!(svg, "<text x=\"{}\" y=\"{}\">no colour: nobody works on it</text>\n</svg>", LEFT + 520, bottom + 32);
    Ok(svg)
}

/// From when to when who was at work on a partition.
fn segments(
    cluster: &Cluster,
    name: &str,
    from: Duration,
    until: Duration,
) -> Result<Vec<(Duration, Duration, u32)>, Failure> {
    let mut segments: Vec<(Duration, Duration, u32)> = Vec::new();
    let mut at = from;
    while at < until {
        let next = at + STEP;
        if let Some(owner) = cluster.owner_at(name, at)? {
            match segments.last_mut() {
                Some((_, end, last)) if *end == at && *last == owner => *end = next,
                _ => segments.push((at, next, owner)),
            }
        }
        at = next;
    }
    Ok(segments)
}
