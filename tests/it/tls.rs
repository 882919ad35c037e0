//! TLS towards clients: what is agreed on, and certificates that change while connections run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use http_body_util::BodyExt;
use paddock::proxy::Tls;
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ProtocolVersion, version};

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::h2;
use crate::support::http::{RawClient, get};
use crate::support::program::Paddock;
use crate::support::tls::{Identity, TlsClient, shown};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
/// For a file that changed: two looks, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn gateway(tls: &Arc<Tls>) -> Gateway {
    let mut config = GatewayConfig::default();
    config.proxy.tls = Some(tls.clone());
    Gateway::start(config)
}

async fn one_server(tls: &Arc<Tls>, slots: u32) -> (Gateway, FakeLlama) {
    let fake = FakeLlama::start(FakeConfig { slots: slots as usize, ..FakeConfig::default() }).await;
    let gateway = gateway(tls);
    gateway.attach("a", fake.addr(), slots);
    (gateway, fake)
}

fn streaming(fake: Value) -> Value {
    json!({"stream": true, "fake": fake})
}

fn h2_chat(addr: SocketAddr, body: &Value) -> Request<http_body_util::Full<bytes::Bytes>> {
    Request::post(format!("https://{addr}{CHAT}")).body(body.to_string().into()).unwrap()
}

#[tokio::test]
async fn versions_and_protocols_are_agreed_on() {
    let (folder, identity) = (Folder::new(), Identity::new());
    let (gateway, fake) = one_server(&identity.server(&folder), 1).await;
    let versions = [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)];
    for (offered, expected) in versions {
        for (alpn, is_h2) in
            [(&["h2", "http/1.1"][..], true), (&["h2"], true), (&["http/1.1"], false), (&[], false)]
        {
            let client = TlsClient::new(&[&identity], alpn, &[offered]);
            let stream = client.connect(gateway.addr()).await;
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(expected));
            let chosen = match (is_h2, alpn.is_empty()) {
                (true, _) => Some(&b"h2"[..]),
                (false, false) => Some(&b"http/1.1"[..]),
                (false, true) => None,
            };
            assert_eq!(session.alpn_protocol(), chosen, "{alpn:?}");
            if is_h2 {
                let mut sender = h2::over(stream).await;
                let answer = sender.send_request(h2_chat(gateway.addr(), &json!({}))).await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
                assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
            } else {
                let mut client = RawClient::over(stream);
                for _ in 0..2 {
                    client.post(CHAT, &json!({})).await;
                    assert_eq!(client.answer().await.status, 200);
                }
            }
        }
    }
    for seen in fake.seen() {
        assert_eq!(seen.headers["x-forwarded-proto"], "https");
    }
    assert_eq!(fake.seen().len(), 2 * (1 + 1 + 2 + 2));
    let nothing = identity.client(&["spdy/3"]).try_connect(gateway.addr()).await.unwrap_err();
    assert!(nothing.to_string().contains("NoApplicationProtocol"), "{nothing}");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn large_bodies_pass_whole_both_ways() {
    let (folder, identity) = (Folder::new(), Identity::new());
    let (gateway, fake) = one_server(&identity.server(&folder), 1).await;
    let mut client = RawClient::over(identity.client(&["http/1.1"]).connect(gateway.addr()).await);
    let filler = "x".repeat(700_000);
    client.post(CHAT, &json!({"filler": filler, "stream": true, "fake": {"chunks": 2000}})).await;
    assert_eq!(client.head().await.status, 200);
    let (body, is_whole) = client.body().await;
    assert!(is_whole && body.ends_with(b"data: [DONE]\n\n"));
    assert!(body.windows(6).filter(|bytes| bytes == b"data: ").count() >= 2000);
    assert!(fake.seen()[0].body_length > 700_000);
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let (folder, identity) = (Folder::new(), Identity::new());
    let (gateway, fake) = one_server(&identity.server(&folder), 1).await;
    let answer = get(gateway.addr(), "/v1/models").await;
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert!(message.contains("https"), "{message}");
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.head().await.status, 400);
    // Neither HTTP nor TLS.
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send([0x16, 0x03, 0x01, 0x00, 0x05, 0, 0, 0, 0, 0]).await;
    assert!(client.try_head().await.is_none());
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let folder = Folder::new();
    let (first, second) = (Identity::new(), Identity::new());
    let tls = first.server(&folder);
    let (gateway, fake) = one_server(&tls, 4).await;
    let following = tokio::spawn({
        let (tls, clock) = (tls.clone(), gateway.clock);
        async move { tls.follow(clock).await }
    });
    let both = |alpn: &[&str]| TlsClient::new(&[&first, &second], alpn, &[&version::TLS12, &version::TLS13]);
    let (one, two) = (both(&["http/1.1"]), both(&["h2"]));
    let stream = one.connect(gateway.addr()).await;
    assert_eq!(shown(&stream), first.der);
    let mut old = RawClient::over(stream);
    old.post(CHAT, &streaming(json!({"hold_stream": "rest"}))).await;
    assert_eq!(old.head().await.status, 200);
    let mut old_h2 = h2::over(two.connect(gateway.addr()).await).await;
    let held = h2_chat(gateway.addr(), &streaming(json!({"hold_stream": "rest"})));
    let held = old_h2.send_request(held).await.unwrap();

    second.install(&folder);
    eventually("the new certificate is shown", SOON, async || {
        // The same client: a session that it might resume is not taken for the new certificate's.
        (shown(&one.connect(gateway.addr()).await) == second.der).then_some(())
    })
    .await;
    fake.release("rest");
    let (body, is_whole) = old.body().await;
    assert!(is_whole && body.ends_with(b"data: [DONE]\n\n"));
    assert!(held.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    old.post(CHAT, &json!({})).await;
    assert_eq!(old.answer().await.status, 200, "the old connections go on");
    let again = old_h2.send_request(h2_chat(gateway.addr(), &json!({}))).await.unwrap();
    assert_eq!(again.status().as_u16(), 200);
    drop(again);
    following.abort();
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let (folder, identity) = (Folder::new(), Identity::new());
    let limited = |head_read_max: Duration| {
        let mut config = GatewayConfig::default();
        config.proxy.tls = Some(identity.server(&folder));
        config.proxy.limits.head_read_max = head_read_max;
        Gateway::start(config)
    };
    let gateway = limited(Duration::from_millis(300));
    // The beginning of a record of 512 bytes; and nothing.
    for begun in [&b"\x16\x03\x01\x02\x00\x01"[..], b""] {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.send(begun).await;
        assert!(client.is_closed_silently().await);
    }
    // Where a handshake is to succeed there is more time. Then comes nothing; and a head that does not end.
    let gateway = limited(Duration::from_secs(3));
    let mut silent = RawClient::over(identity.client(&["http/1.1"]).connect(gateway.addr()).await);
    let mut slow = RawClient::over(identity.client(&[]).connect(gateway.addr()).await);
    slow.send("GET / HTTP/1.1\r\nHost: ").await;
    assert_eq!(slow.answer().await.status, 408);
    assert!(silent.is_closed_silently().await);
}

#[tokio::test]
async fn a_drain_ends_tls_connections_after_their_answers() {
    let (folder, identity) = (Folder::new(), Identity::new());
    let (mut gateway, fake) = one_server(&identity.server(&folder), 2).await;
    let (h1, both) = (identity.client(&["http/1.1"]), identity.client(&["h2"]));
    let mut idle = RawClient::over(h1.connect(gateway.addr()).await);
    idle.post(CHAT, &json!({})).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut begun = TcpStream::connect(gateway.addr()).await.unwrap();
    begun.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let mut busy = RawClient::over(h1.connect(gateway.addr()).await);
    busy.post(CHAT, &streaming(json!({"hold_stream": "rest"}))).await;
    assert_eq!(busy.head().await.status, 200);
    let mut sender = h2::over(both.connect(gateway.addr()).await).await;
    let held = h2_chat(gateway.addr(), &streaming(json!({"hold_stream": "rest"})));
    let held = sender.send_request(held).await.unwrap();

    let clients = async {
        assert!(idle.is_closed_silently().await);
        assert!(matches!(begun.read(&mut [0; 9]).await, Ok(0) | Err(_)));
        fake.release("rest");
        let (body, is_whole) = busy.body().await;
        assert!(is_whole && body.ends_with(b"data: [DONE]\n\n"));
        assert!(busy.is_closed_silently().await);
        assert!(held.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    };
    tokio::join!(gateway.drain(), clients);
}

#[tokio::test]
async fn half_a_pair_is_not_taken_and_is_told() {
    let folder = Folder::new();
    let expired = Identity::with(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let (first, second) = (Identity::new(), Identity::new());
    first.install(&folder);
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let flags = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut paddock = Paddock::start(&flags).await;
    let client = TlsClient::new(&[&first, &second], &[], &[&version::TLS13]);
    let told = |paddock: &Paddock, text: &'static str| {
        let output = paddock.output();
        output.contains(text).then_some(())
    };
    folder.replace("cert.pem", &second.cert_pem);
    eventually("the mismatch is told", SOON, async || told(&paddock, "does not belong to the first")).await;
    assert_eq!(shown(&client.connect(paddock.proxy()).await), first.der);
    folder.write("key.pem", &second.key_pem[..second.key_pem.len() / 2]);
    eventually("the half is told", SOON, async || told(&paddock, "is not whole PEM")).await;
    assert_eq!(shown(&client.connect(paddock.proxy()).await), first.der);
    folder.write("key.pem", &second.key_pem);
    eventually("both are there", SOON, async || {
        (shown(&client.connect(paddock.proxy()).await) == second.der).then_some(())
    })
    .await;
    expired.install(&folder);
    eventually("its end is told", SOON, async || told(&paddock, "has expired, so clients refuse it")).await;
    let output = paddock.output();
    for line in ["does not belong to the first", "is not whole PEM"] {
        assert_eq!(output.matches(line).count(), 1, "{line}: {output}");
    }
    assert!(output.contains("(TLS, open to everybody who reaches it)"), "{output}");
    for identity in [&first, &second, &expired] {
        assert!(!output.contains(identity.key_pem.lines().nth(1).unwrap()));
    }
    paddock.sigterm();
    assert!(paddock.wait().await.success());
}

#[tokio::test]
async fn wrong_input_gets_one_line() {
    let (folder, one, other) = (Folder::new(), Identity::new(), Identity::new());
    one.install(&folder);
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let others = folder.write("other.pem", &other.key_pem);
    for (args, says) in [
        (&["--tls-cert", cert][..], &["--tls-cert: '", "' needs its private key; give --tls-key too"][..]),
        (&["--tls-key", key], &["--tls-key: '", "' needs its certificate; give --tls-cert too"]),
        (&["--tls-cert", key, "--tls-key", key], &["--tls-cert: '", "holds no certificate; give"]),
        (&["--tls-cert", cert, "--tls-key", cert], &["--tls-key: '", "holds no private key", "; give"]),
        (&["--tls-cert", "/no", "--tls-key", key], &["--tls-cert: '/no' cannot be read (No such file"]),
        (
            &["--tls-cert", cert, "--tls-key", others.to_str().unwrap()],
            &["--tls-key: '", "does not belong", "; give"],
        ),
    ] {
        let run = Paddock::run(&[&["balancer"], args].concat()).await;
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!((run.status.code(), stderr.lines().count()), (Some(2), 1), "{args:?}: {stderr}");
        assert!(says.iter().all(|part| stderr.contains(part)), "{says:?}: {stderr}");
    }
}
