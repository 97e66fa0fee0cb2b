//! The page: who may see it, and what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::browser;
use crate::fleet::{DEADLINE, Fleet, list};
use crate::support::folder;

/// The command while it serves the page; ended with this.
struct Page {
    process: Child,
    /// `127.0.0.1:…`
    address: String,
    /// What nobody can guess.
    path: String,
}

impl Page {
    fn open(fleet: &Fleet) -> Self {
        let mut process = Command::new(snapbox::cmd::cargo_bin!("parti"))
            .args(["dashboard", "--port", "0", "-g", "orders", "-s", &fleet.server.url()])
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        let mut said = BufReader::new(process.stdout.take().expect("it is piped"));
        said.read_line(&mut line).expect("it says where it is");
        let url = line.trim().strip_prefix("http://").expect("a URL");
        let (address, path) = url.split_once('/').expect("a path");
        Self { address: address.to_owned(), path: format!("/{path}"), process }
    }

    /// Asks for a path under a name, and gives back what comes until `enough`.
    fn ask(&self, path: &str, host: &str, enough: impl Fn(&str) -> bool) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("sent");
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut part).expect("an answer");
            bytes.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&bytes);
            if read == 0 || enough(&text) {
                return text.into_owned();
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_page_is_for_who_knows_its_path_and_calls_it_by_its_name_and_goes_on_by_itself() {
    let fleet = Fleet::settled(&list(6), &[(0, 1), (1, 1)]);
    fleet.write("members", "control.pause", br#"{"v":1,"by":"<img src=x onerror=alert(1)>","reason":"</script>"}"#);
    let page = Page::open(&fleet);
    let whole = |_: &str| false;
    assert!(page.address.starts_with("127.0.0.1:") && page.path.len() == 34, "{} {}", page.address, page.path);

    let shown = page.ask(&page.path, &page.address, whole);
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown:.300}");
    let policy = shown.lines().find(|line| line.starts_with("content-security-policy: default-src 'none';"));
    let nonce = policy.and_then(|policy| policy.split("'nonce-").nth(1)?.split('\'').next()).expect("a nonce");
    assert!(shown.contains(&format!("<script nonce=\"{nonce}\">")) && !shown.contains("NONCE"), "{policy:?}");
    let again = page.ask(&page.path, &page.address, whole);
    assert!(!again.contains(nonce), "each answer has a nonce of its own");

    let port = page.address.rsplit(':').next().expect("a port");
    for (path, host) in [
        ("/00000000000000000000000000000000/", page.address.as_str()),
        ("/", &page.address),
        (&page.path, &format!("evil.example:{port}")),
        (&format!("{}events", page.path), "evil.example"),
    ] {
        let refused = page.ask(path, host, whole);
        assert!(refused.starts_with("HTTP/1.1 404") && !refused.contains("orders"), "{path} {host}: {refused:.300}");
    }

    let events = format!("{}events", page.path);
    let named = format!("localhost:{port}");
    let told = page.ask(&events, &named, |text| text.matches("data: {").count() >= 2);
    let data = told.split("data: ").nth(1).and_then(|rest| rest.lines().next()).expect("an event");
    let picture: serde_json::Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
    assert_eq!(
        (&picture["group"], &picture["settled"], &picture["partitions"]),
        (&"orders".into(), &true.into(), &6.into())
    );
    assert_eq!(picture["workers"][0]["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(picture["wishes"][0]["reason"], "</script>");
    let plans = picture["plans"].as_array().expect("a list");
    assert!(plans.iter().any(|plan| plan["causes"][0]["count"] == 6), "the first plan has placed all: {plans:?}");

    // It goes on by itself.
    let mut follower = TcpStream::connect(&page.address).expect("it listens");
    follower.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    write!(follower, "GET {events} HTTP/1.1\r\nHost: {named}\r\n\r\n").expect("sent");
    fleet.parti(&["list", "add", "q", "--force"]).assert().success();
    let mut lines = BufReader::new(follower).lines();
    let grown = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"partitions\":7")));
    assert!(grown.is_some_and(|line| line.is_ok()), "the page is told of the new partition");
}

/// Runs the browser on the page, and gives back what it prints.
fn browse(page: &Page, dark: bool, arguments: &[&str]) -> String {
    let arguments = [&["--window-size=1280,900"], arguments].concat();
    browser::browse(&format!("http://{}{}", page.address, page.path), &folder(), dark, &arguments)
}

#[test]
fn a_browser_draws_the_group_in_light_and_dark_and_runs_nothing_that_is_stored() {
    let fleet = Fleet::settled(&list(12), &[(0, 1), (1, 1), (2, 1)]);
    let hostile = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>";
    let wish = serde_json::json!({ "v": 1, "by": hostile, "reason": hostile });
    fleet.write("members", "control.pause", wish.to_string().as_bytes());
    let page = Page::open(&fleet);
    let mut pictures = Vec::new();
    for dark in [false, true] {
        let shown = browse(&page, dark, &["--dump-dom"]);
        let body = shown.split("<body>").nth(1).expect("a page");
        assert!(shown.contains("<title>parti · orders</title>"), "{shown:.600}");
        let sentence = "<div id=\"sentence\" aria-live=\"polite\" class=\"good\">orders is settled for ";
        assert!(body.contains(sentence), "{body:.600}");
        assert!(body.contains("3 workers · 12 partitions, 0 unowned, 0 moving"), "{body:.600}");
        assert_eq!(body.matches("class=\"worker working\"").count(), 3, "{body:.2000}");
        // What is a cell says which partition it is.
        assert_eq!(body.matches("title=\"p-").count(), 12, "{body:.2000}");
        assert!(body.contains("<td>&lt;img src=x onerror="), "what is stored is shown as text: {body}");
        let file = std::env::temp_dir().join(format!("parti-page-{}-{dark}.png", std::process::id()));
        browse(&page, dark, &[&format!("--screenshot={}", file.display())]);
        pictures.push(std::fs::read(&file).expect("the browser has made a picture"));
        std::fs::remove_file(file).expect("its own");
    }
    assert!(pictures[0] != pictures[1] && pictures.iter().all(|picture| picture.len() > 10_000));
}

/// Draws one picture after another, and compares what is there with what a page shows that has drawn nothing else; then draws a
/// large group again and again, each time with other ages and a twentieth of it moving, and takes the time of that.
const REDRAW: &str = r#"
const tables = ["workers", "moves", "plans", "notes"];
const shown = () => tables.map(id => $(id).outerHTML.replaceAll(' class=""', "")).join("\n");
const anew = picture => { lines.clear(); tables.forEach(id => $(id).replaceChildren()); draw(picture); return shown(); };
const copy = picture => JSON.parse(JSON.stringify(picture));
const change = (picture, by) => { const changed = copy(picture); by(changed, changed.workers); return changed; };
const real = JSON.parse($("first").textContent);
const moving = change(real, (all, workers) => {
  workers[0].partitions[1][2] = 2;
  workers[2].partitions.unshift(workers[1].partitions.pop());
  workers[1].state = "silent";
  all.moves = [{ partition: "p", from: 0, to: 2, since_ms: 5 }];
  all.unowned = [{ partition: "<b>q", to: null }, { partition: "r", to: 1 }];
});
const joined = change(moving, (all, workers) => {
  workers.splice(1, 1);
  workers.push({ ...workers[0], slot: 7, worker: "worker-7", leads: false, partitions: [["q", 3, null]] });
  all.unowned = [];
});
const large = (workers, each, age, to) => change(real, all => {
  all.workers = [...Array(workers).keys()].map(slot => ({ ...real.workers[0], slot, worker: `worker-${slot}`, age_ms: age * 1000,
    partitions: [...Array(each).keys()].map(number => [`orders-${slot}-${number}`, 1, (number + age) % 20 ? null : to(slot)]) }));
});
const nobody_there = change(real, all => { all.workers = []; });
const series = [moving, joined, nobody_there, large(60, 500, 1, () => 3), real, moving, large(41, 3, 2, () => null), joined, real];
const ended = series.map(picture => { draw(picture); return shown(); });
const same = series.map((picture, at) => anew(picture) === ended[at]);
const times = [...Array(12).keys()].map(age => {
  const picture = large(200, 50, age, slot => (slot + age) % 200), begun = performance.now();
  draw(picture);
  document.body.offsetHeight;
  return performance.now() - begun;
});
document.title = JSON.stringify({ same, cells: document.querySelectorAll(".cells i").length, best: Math.min(...times.slice(1)) });
"#;

#[test]
fn what_has_changed_is_drawn_as_if_it_were_new_and_at_once_in_a_large_group_too() {
    let fleet = Fleet::settled(&list(12), &[(0, 1), (1, 1), (2, 1)]);
    let page = Page::open(&fleet);
    let shown = page.ask(&page.path, &page.address, |_| false);
    let (_, html) = shown.split_once("\r\n\r\n").expect("a body");
    let folder = folder();
    let file = folder.join("page.html");
    let script = format!("<script>{REDRAW}</script></body>");
    std::fs::write(&file, html.replace("</body>", &script)).expect("written");
    let profile = folder.join("profile");
    let shown = browser::browse(&format!("file://{}", file.display()), &profile, false, &["--dump-dom"]);
    std::fs::remove_dir_all(folder).expect("its own");
    let title = shown.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).expect("a title");
    let told: serde_json::Value = serde_json::from_str(title).unwrap_or_else(|error| panic!("{error}: {title}"));
    assert_eq!((&told["same"], &told["cells"]), (&vec![true; 9].into(), &10_000.into()), "{told}");
    assert!(told["best"].as_f64().is_some_and(|best| best < 100.0), "{told}");
}
