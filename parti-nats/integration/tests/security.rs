//! The ways to say who one is: each lets a worker in, and nothing else does.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::ConnectOptions;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use parti_nats::{Builder, Config, Error, ErrorKind, GroupName, Handle, Permissions, Role, WorkerState, permissions};
use serde_json::{Value, json};
use support::Server;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn two_workers_share_over_tls_and_whoever_does_not_trust_the_server_is_not_let_in() {
    let files = Files::new();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = files.write("cert.pem", &issued.cert.pem());
    let key = files.write("key.pem", &issued.signing_key.serialize_pem());
    let server = Server::start_with_config(&format!(
        "jetstream: enabled\n\
         tls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n\
         authorization {{ users: [ {{ user: w, password: w, permissions: {} }} ] }}\n",
        founder()
    ));
    let url = format!("tls://w:w@localhost:{}", server.port());
    let trusting = || ConnectOptions::new().add_root_certificates(certificate.clone());

    let workers = [start(&url, trusting()), start(&url, trusting())];
    for worker in &workers {
        let wanted = |status: &parti_nats::Status| status.owned == 4;
        worker.wait_for("its half", DEADLINE, wanted).await.expect("let in");
    }

    assert_refused(&url, ConnectOptions::new()).await;
    let without_password = format!("tls://localhost:{}", server.port());
    assert_refused(&without_password, trusting()).await;
    let wrong = format!("tls://w:wrong@localhost:{}", server.port());
    assert_refused(&wrong, trusting()).await;
}

#[tokio::test]
async fn a_worker_is_let_in_by_its_nkey_and_by_no_other() {
    let user = KeyPair::new_user();
    let server = Server::start_with_config(&format!(
        "jetstream: enabled\nauthorization {{ users: [ {{ nkey: {}, permissions: {} }} ] }}\n",
        user.public_key(),
        founder()
    ));
    let seed = |key: &KeyPair| key.seed().expect("made here");
    works(&server.url(), ConnectOptions::with_nkey(seed(&user))).await.expect("let in");
    assert_refused(&server.url(), ConnectOptions::with_nkey(seed(&KeyPair::new_user()))).await;
}

#[tokio::test]
async fn a_worker_is_let_in_by_credentials_that_its_account_has_signed() {
    let account = KeyPair::new_account();
    let server = server_with(&account);
    let credentials = |signer: &KeyPair, allowed: &Permissions| {
        let text = credentials(signer, &user_claims(allowed), None);
        ConnectOptions::with_credentials(&text).expect("well formed")
    };
    works(&server.url(), credentials(&account, &founder())).await.expect("let in");
    assert_refused(&server.url(), credentials(&KeyPair::new_account(), &founder())).await;

    let mut less = founder();
    less.publish.retain(|subject| !subject.ends_with(".leader"));
    let error = works(&server.url(), credentials(&account, &less)).await.expect_err("not enough");
    assert!(matches!(error.kind(), ErrorKind::Permission { .. }), "{error}");
    assert!(error.to_string().contains("$KV.parti_orders_members.leader"), "{error}");
}

/// As a sidecar does it: the file is renewed, and used when the server asks again. While it is not, the worker says that
/// it is refused, which is not that nobody is there.
#[tokio::test]
async fn credentials_that_are_renewed_in_their_file_are_used_and_a_worker_that_is_refused_says_so() {
    let (account, files) = (KeyPair::new_account(), Files::new());
    let server = server_with(&account);
    let lasting = |seconds: u64| credentials(&account, &user_claims(&founder()), Some(now() + seconds));
    let file = files.write("user.creds", &lasting(6));
    let config = Config { lease: Duration::from_secs(2), ..Config::default() };
    let builder = Builder::new("orders").server(server.url()).credentials_file(&file).config(config);
    let worker = builder.partition_ids(["p"]).start().expect("valid settings");
    worker.wait_for_state(WorkerState::Stable, DEADLINE).await.expect("let in");

    let until = async |what: &str, enough: &dyn Fn(&parti_nats::Health) -> bool| {
        let begun = std::time::Instant::now();
        while !enough(&worker.health()) {
            assert!(begun.elapsed() < DEADLINE, "not {what}: {:?}", worker.health());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until("locked out", &|health| !health.live.good).await;
    let health = worker.health();
    assert!(health.live.reason.contains("refuses this client's credentials"), "{health:?}");
    assert!(health.ready.reason.contains("refuses this client's credentials"), "{health:?}");
    let is_refused = |health: &parti_nats::Health| health.warnings.iter().any(|one| one.name == "login_refused");
    assert!(is_refused(&health), "{health:?}");

    files.write("user.creds", &lasting(3_600));
    until("back", &|health| health.live.good && health.ready.good && !is_refused(health)).await;
}

/// A server whose operator lets in whom `account` has signed for.
fn server_with(account: &KeyPair) -> Server {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let preloaded = [account, &system].map(|account| {
        format!(
            "{}: {}",
            account.public_key(),
            token(account, &operator, &account_claims(account.public_key() == system.public_key()))
        )
    });
    Server::start_with_config(&format!(
        "jetstream: enabled\noperator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}\n",
        token(&operator, &operator, &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        preloaded.join(", "),
    ))
}

/// A credentials file for a new user; `expires` in seconds since 1970.
fn credentials(signer: &KeyPair, claims: &Value, expires: Option<u64>) -> String {
    let user = KeyPair::new_user();
    let jwt = token_until(&user, signer, claims, expires);
    let seed = user.seed().expect("made here");
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

fn founder() -> Permissions {
    permissions(&GroupName::new("orders").expect("a valid name"), Role::FoundingWorker)
}

fn start(url: &str, options: ConnectOptions) -> Handle {
    let config = Config {
        settle_window: Duration::from_millis(200),
        planned_scale_window: Duration::from_secs(1),
        rebalance_interval: Duration::from_millis(200),
        ..Config::default()
    };
    let ids = (0..8).map(|number| format!("p{number}"));
    let builder = Builder::new("orders").server(url).connect_options(options).config(config);
    builder.partition_ids(ids).start().expect("valid settings")
}

/// A worker's life: from its start to its end.
async fn works(url: &str, options: ConnectOptions) -> Result<(), Error> {
    let mut worker = start(url, options);
    worker.wait_for_state(WorkerState::Stable, DEADLINE).await?;
    worker.stop();
    while worker.next_change().await.is_some() {}
    worker.finished().await
}

async fn assert_refused(url: &str, options: ConnectOptions) {
    let error = start(url, options).wait_for_state(WorkerState::Stable, DEADLINE).await.expect_err("not let in");
    assert!(matches!(error.kind(), ErrorKind::Connect { .. } | ErrorKind::Login { .. }), "{error}");
    assert!(error.to_string().contains("credentials") && !error.to_string().contains("w:w"), "{error}");
}

/// What one key says of another, as servers with an operator want it.
fn token(subject: &KeyPair, issuer: &KeyPair, claims: &Value) -> String {
    token_until(subject, issuer, claims, None)
}

fn token_until(subject: &KeyPair, issuer: &KeyPair, claims: &Value, expires: Option<u64>) -> String {
    let issued_at = now();
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let mut body = json!({
        "jti": BASE32_NOPAD.encode(subject.public_key().as_bytes()),
        "iat": issued_at,
        "iss": issuer.public_key(),
        "name": "test",
        "sub": subject.public_key(),
        "nats": claims,
    });
    if let Some(expires) = expires {
        body["exp"] = json!(expires);
    }
    let signed = [header, body].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes())).join(".");
    let signature = issuer.sign(signed.as_bytes()).expect("a key pair made here can sign");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// An account without limits; that of the system has no store.
fn account_claims(is_system: bool) -> Value {
    let (none, store) = (-1, if is_system { 0 } else { -1 });
    json!({
        "type": "account",
        "version": 2,
        "limits": {
            "subs": none, "data": none, "payload": none, "imports": none, "exports": none, "wildcards": true,
            "conn": none, "leaf": none, "mem_storage": store, "disk_storage": store, "streams": store,
            "consumer": store,
        },
    })
}

fn user_claims(allowed: &Permissions) -> Value {
    let mut claims = json!({
        "type": "user",
        "version": 2,
        "pub": { "allow": allowed.publish },
        "sub": { "allow": allowed.subscribe },
        "subs": -1,
        "data": -1,
        "payload": -1,
    });
    if allowed.allow_responses {
        claims["resp"] = json!({ "max": 1, "ttl": 0 });
    }
    claims
}

/// A directory of a test's own.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        Self(support::folder())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the temporary directory must be writable");
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left behind is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
