//! `check` finds what is wrong with a server, its buckets, the way to it and one's rights, and says how to mend it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use parti_nats::async_nats::jetstream::{self, stream};
use parti_nats::{Role, permissions};

use crate::fleet::{Fleet, group, list, parti};
use crate::support::Server;

/// Changes one setting of a bucket.
type Edit = fn(&mut stream::Config);

#[test]
fn buckets_that_were_edited_are_named_with_what_to_set_back() {
    let fleet = Fleet::settled(&list(3), &[(0, 1)]);
    let edits: [(&str, Edit); 4] = [
        ("set max_age to 0 (no limit)", |config| config.max_age = Duration::from_secs(600)),
        ("set max_msgs_per_subject to 1", |config| config.max_messages_per_subject = 100),
        ("set republish to", |config| config.republish = None),
        ("set max_bytes to -1", |config| config.max_bytes = 1_000_000),
    ];
    for bucket in ["members", "plan"] {
        for (told, edit) in edits {
            let before = fleet.run(async |client| change(client, bucket, edit).await);
            let (text, code) = fleet.answer(&["check"]);
            let is_named = text.lines().any(|line| line.starts_with("CRITICAL") && line.contains(told));
            assert_eq!((is_named, code), (true, 2), "{bucket}, {told}: {text}");
            assert!(text.contains(bucket), "{text}");
            fleet.run(async |client| change(client, bucket, |config| *config = before).await);
        }
    }
    let (text, code) = fleet.answer(&["check"]);
    assert_eq!(code, 0, "all is set back: {text}");
}

/// Changes the settings of a bucket, and returns what they were.
async fn change(
    client: parti_nats::async_nats::Client,
    bucket: &str,
    edit: impl FnOnce(&mut stream::Config),
) -> stream::Config {
    let jetstream = jetstream::new(client);
    let stream = jetstream.get_stream(format!("KV_parti_orders_{bucket}")).await.expect("a bucket");
    let before = stream.cached_info().config.clone();
    let mut config = before.clone();
    edit(&mut config);
    jetstream.update_stream(config).await.expect("edited");
    before
}

#[test]
fn a_long_way_to_the_server_is_warned_of() {
    let fleet = Fleet::settled(&list(3), &[(0, 1)]);
    let url = slow_way_to(fleet.server.port(), Duration::from_millis(150));
    let output = parti(&url, &["check"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().any(|line| line.starts_with("WARNING   latency   an answer took ")), "{text}");
    assert!(text.contains("OK        clocks "), "what is on its way for long is no wrong clock: {text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}

/// A way to a server on which everything takes so long, in both directions.
fn slow_way_to(server: u16, delay: Duration) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).expect("the server listens");
            let both = [(&client, &server), (&server, &client)];
            for (from, to) in both {
                let (from, to) = (from.try_clone().expect("open"), to.try_clone().expect("open"));
                std::thread::spawn(move || pass_on(from, to, delay));
            }
        }
    });
    format!("nats://127.0.0.1:{port}")
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let mut bytes = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(delay);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // Where one side has closed, the other one hears it; who has closed already does not mind.
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn what_a_check_may_not_read_is_unknown_and_said() {
    let role = permissions(&group(), Role::Observer).to_string();
    let blind = role.replace("KV_parti_orders_plan", "KV_parti_orders_other");
    assert_ne!(role, blind, "an observer reads the plan");
    let user =
        |name: &str, permissions: &str| format!("{{ user: {name}, password: {name}, permissions: {permissions} }}");
    let users = [user("blind", &blind), "{ user: founder, password: founder }".to_owned()].join(", ");
    let server = Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {users} ] }}\n"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options =
            parti_nats::async_nats::ConnectOptions::with_user_and_password("founder".into(), "founder".into());
        let client = options.connect(server.url()).await.expect("let in");
        parti_nats::create_buckets(&client, &group(), 1).await.expect("created");
    });
    let output = parti(&server.url(), &["check", "--user", "blind", "--password", "blind", "--timeout", "2s"]).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "nobody can tell: {said}");
    assert!(said.contains("KV_parti_orders_plan"), "{said}");
}
