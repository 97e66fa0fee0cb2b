//! Writes under a token, on a real server: a former owner's are refused, whoever else writes.

mod support;

use async_nats::jetstream::{self, kv, stream};
use futures_util::future::join_all;
use parti_nats::{Fence, FenceError, Generation, Revision, TOKEN_HEADER, Token};
use support::Server;

struct World {
    jetstream: jetstream::Context,
    totals: kv::Store,
    _server: Server,
}

impl World {
    async fn new() -> Self {
        let server = Server::start();
        let client = async_nats::connect(server.url()).await.expect("it listens");
        let jetstream = jetstream::new(client);
        let bucket = kv::Config { bucket: "totals".into(), ..kv::Config::default() };
        let totals = jetstream.create_key_value(bucket).await.expect("a new bucket");
        let out = stream::Config { name: "OUT".into(), subjects: vec!["out.*".into()], ..stream::Config::default() };
        jetstream.create_stream(out).await.expect("a new stream");
        Self { jetstream, totals, _server: server }
    }

    fn fence(&self, epoch: u64) -> Fence {
        Fence::new(self.jetstream.clone(), token(epoch))
    }

    async fn value(&self, key: &str) -> Option<String> {
        let value = self.totals.get(key).await.expect("it can be read");
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    }
}

fn token(epoch: u64) -> Token {
    Token { epoch: Generation::new(epoch), ..Token::default() }
}

fn is_fenced(outcome: &Result<Revision, FenceError>, by: u64) -> bool {
    matches!(outcome, Err(FenceError::Fenced { stored, .. }) if *stored == token(by))
}

#[tokio::test]
async fn a_former_owner_cannot_write_a_key_once_its_successor_has() {
    let world = World::new().await;
    let (old, new) = (world.fence(1), world.fence(2));
    old.put(&world.totals, "p1", "1").await.expect("nobody has written");
    old.put(&world.totals, "p1", "2").await.expect("only it has written");
    new.put(&world.totals, "p1", "3").await.expect("its token is higher");
    let refused = old.put(&world.totals, "p1", "4").await;
    assert!(is_fenced(&refused, 2), "{refused:?}");
    let told = refused.expect_err("it is").to_string();
    assert!(told.contains("$KV.totals.p1") && told.contains(&token(2).to_string()), "{told}");
    assert_eq!(world.value("p1").await.as_deref(), Some("3"));
    old.put(&world.totals, "p2", "5").await.expect("the token of one key says nothing about another");
}

/// What was claimed stays as it is, so that it can be gone on from; also where nothing was there yet.
#[tokio::test]
async fn a_claim_returns_what_is_there_and_shuts_a_former_owner_out() {
    let world = World::new().await;
    let (old, new) = (world.fence(1), world.fence(2));
    assert_eq!(old.claim(&world.totals, "p1").await.expect("nobody has written"), "");
    old.put(&world.totals, "p1", "7").await.expect("its own");
    assert_eq!(new.claim(&world.totals, "p1").await.expect("its token is higher"), "7");
    let refused = old.put(&world.totals, "p1", "8").await;
    assert!(is_fenced(&refused, 2), "{refused:?}");
    assert_eq!(world.value("p1").await.as_deref(), Some("7"));
    let refused = old.claim(&world.totals, "p1").await.map(|_| Revision::default());
    assert!(is_fenced(&refused, 2), "{refused:?}");
    world.totals.delete("p1").await.expect("it is there");
    assert_eq!(old.claim(&world.totals, "p1").await.expect("who deletes lets go of the fence"), "");
}

#[tokio::test]
async fn a_former_owner_cannot_append_once_its_successor_has() {
    let world = World::new().await;
    let (old, new) = (world.fence(1), world.fence(2));
    let revisions = [&old, &old, &new].map(|fence| fence.append("OUT", "out.p1", "done"));
    let revisions = join_all(revisions).await;
    // They raced; but whoever came after the higher token was refused.
    assert!(revisions[2].is_ok() && revisions[..2].iter().all(|one| one.is_ok() || is_fenced(one, 2)), "{revisions:?}");
    let refused = old.append("OUT", "out.p1", "late").await;
    assert!(is_fenced(&refused, 2), "{refused:?}");
}

#[tokio::test]
async fn however_many_owners_race_tokens_never_go_back() {
    let world = World::new().await;
    let fences: Vec<Fence> = (0..12).map(|n| world.fence(n * 7 % 12)).collect();
    join_all(fences.iter().map(|fence| fence.append("OUT", "out.p1", "x"))).await;
    let stream = world.jetstream.get_stream("OUT").await.expect("it is there");
    let mut last = Token::default();
    let count = stream.cached_info().state.messages;
    assert!(count > 0);
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.expect("it is there");
        let token = message.headers.get(TOKEN_HEADER).expect("it is fenced").as_str().parse().expect("a token");
        assert!(token >= last, "{token} after {last}");
        last = token;
    }
    assert_eq!(last, token(11), "the others can come in between less often than it tries");
}

#[tokio::test]
async fn what_has_no_token_stops_nobody_and_what_has_a_wrong_one_is_said() {
    let world = World::new().await;
    world.totals.put("p1", "by hand".into()).await.expect("no fence");
    world.fence(1).put(&world.totals, "p1", "1").await.expect("there is no token");
    world.totals.delete("p1").await.expect("it is there");
    world.fence(0).put(&world.totals, "p1", "0").await.expect("who deletes lets go of the fence");

    let mut headers = async_nats::HeaderMap::new();
    headers.insert(TOKEN_HEADER, "7");
    let published = world.jetstream.publish_with_headers("$KV.totals.p1", headers, "?".into()).await;
    published.expect("sent").await.expect("stored");
    let error = world.fence(9).put(&world.totals, "p1", "9").await.expect_err("it cannot be compared");
    assert!(matches!(error, FenceError::UnreadableToken { .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error_that_names_it() {
    let world = World::new().await;
    let fence = world.fence(1);
    for key in ["", ".a", "a.", "a b", "a*", "ä"] {
        let error = fence.put(&world.totals, key, "x").await.expect_err("no key");
        assert!(matches!(error, FenceError::Key { .. }), "{key:?}: {error:?}");
    }
    let error = fence.append("NONE", "out.p1", "x").await.expect_err("no stream");
    assert!(matches!(&error, FenceError::Unread { subject, .. } if subject == "out.p1"), "{error:?}");
    let large = vec![0; 2 << 20];
    let error = fence.put(&world.totals, "p1", large).await.expect_err("more than max_payload");
    assert!(matches!(error, FenceError::Refused { .. }), "{error:?}");
}
