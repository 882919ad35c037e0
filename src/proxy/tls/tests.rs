use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::reload::fixture::Folder;

fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let cert = params.self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem(), cert.der().clone())
}

#[test]
fn each_mistake_is_one_line_with_flag_file_and_mend() {
    let folder = Folder::new();
    let ((cert, key, _), (_, other, _)) = (pair(|_| {}), pair(|_| {}));
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let good_cert = folder.write("cert", &cert);
    let good_key = folder.write("key", &key);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, says) in [
        (
            folder.path().join("no"),
            good_key.clone(),
            &["--tls-cert: '", "/no' cannot be read (No such file", "; give"][..],
        ),
        (
            good_cert.clone(),
            folder.path().join("no"),
            &["--tls-key: '", "/no' cannot be read (No such file", "; give"],
        ),
        (good_key.clone(), good_key.clone(), &["--tls-cert: '", "/key' holds no certificate; give"]),
        (
            good_cert.clone(),
            good_cert.clone(),
            &["--tls-key: '", "/cert' holds no private key without", "; give"],
        ),
        (
            folder.write("empty", ""),
            good_key.clone(),
            &["--tls-cert: '", "/empty' holds no certificate; give"],
        ),
        (
            folder.write("half", &half(&cert)),
            good_key.clone(),
            &["--tls-cert: '", "/half' is not whole PEM; copy"],
        ),
        (
            good_cert.clone(),
            folder.write("halfkey", &half(&key)),
            &["--tls-key: '", "/halfkey' is not whole PEM; copy"],
        ),
        (
            good_cert.clone(),
            folder.write("locked", &encrypted),
            &["--tls-key: '", "/locked' holds no private key"],
        ),
        (
            good_cert.clone(),
            folder.write("nonsense", nonsense),
            &["--tls-key: '", "/nonsense' is of no use (", "; give"],
        ),
        (
            folder.write("rubbish", rubbish),
            good_key,
            &["--tls-cert: '", "/rubbish' is of no use (", "; give"],
        ),
        (
            good_cert,
            folder.write("other", &other),
            &["--tls-key: '", "/other' does not belong", "/cert'; give"],
        ),
    ] {
        let error = Tls::open(&cert, &key).unwrap_err().to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{says:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_certificate_tells_when_it_ends() {
    let seconds = |year, month, day| {
        Duration::from_secs(date_time_ymd(year, month, day).unix_timestamp().try_into().unwrap())
    };
    for (from, until) in [
        ((2001, 2, 3), (2049, 12, 31)),
        ((2024, 2, 29), (2150, 1, 1)),
        ((1999, 1, 1), (2000, 1, 1)),
        ((1975, 1, 1), (1980, 1, 1)),
    ] {
        let (_, _, der) = pair(|params| {
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(until.0, until.1, until.2);
        });
        let expected =
            Validity { from: seconds(from.0, from.1, from.2), until: seconds(until.0, until.1, until.2) };
        assert_eq!(Validity::of(&der), Some(expected));
        for cut in 0..der.len() {
            // Cut anywhere, it is found or not, without a panic.
            let _ = Validity::of(&der[..cut]);
        }
    }
    assert_eq!(Validity::of(b"\x30\x84\xff\xff\xff\xff"), None);
}

/// That a new pair is served, and a half-written one is not, is shown by `tests/it/tls.rs`.
#[test]
fn both_protocols_are_offered_and_sessions_are_not_kept() {
    let folder = Folder::new();
    let (cert, key, _) = pair(|_| {});
    let tls = Tls::open(&folder.write("cert", &cert), &folder.write("key", &key)).unwrap();
    let config = tls.current().config;
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(config.ticketer.enabled() && config.max_early_data_size == 0);
    let shown = format!("{tls:?}");
    assert!(!shown.contains(key.lines().nth(1).unwrap()), "{shown}");
}
