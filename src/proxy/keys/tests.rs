use http::{HeaderName, HeaderValue};

use super::file::{LineError, parse};
use super::*;

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn text(of: &[(&str, &str)]) -> String {
    of.iter().map(|(name, key)| file::line(name, &hash(key)) + "\n").collect()
}

fn keys(of: &[(&str, &str)]) -> Keys {
    let entries = parse(&text(of), &[]).unwrap();
    Keys { path: PathBuf::new(), watch: Watch::new(Vec::new()), entries: RwLock::new(entries) }
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    of.iter().map(pair).collect()
}

#[test]
fn who_presents_a_known_key_is_its_name() {
    let keys = keys(&[("alice", "one"), ("bob", "two"), ("alice", "three")]);
    let (alice, bob) = (Some(TenantId(1)), Some(TenantId(2)));
    for (presented, expected) in [
        (&[("authorization", "Bearer one")][..], alice),
        (&[("authorization", "bEARER  one")], alice),
        (&[("x-api-key", "two")], bob),
        (&[("authorization", "Bearer three")], alice),
        (&[("authorization", "Bearer two"), ("x-api-key", "two")], bob),
        (&[], None),
        (&[("authorization", "Bearer four")], None),
        (&[("authorization", "Bearer One")], None),
        (&[("authorization", "Bearer on")], None),
        (&[("authorization", "Bearer ")], None),
        (&[("authorization", "Bearer")], None),
        (&[("authorization", "one")], None),
        (&[("authorization", "Basic one")], None),
        (&[("authorization", "Basic one"), ("x-api-key", "one")], None),
        (&[("authorization", "Bearer one, Bearer two")], None),
        (&[("x-api-key", "")], None),
        (&[("authorization", "Bearer one"), ("x-api-key", "two")], None),
        (&[("authorization", "Bearer one"), ("authorization", "Bearer one")], None),
        (&[("x-api-key", "one"), ("x-api-key", "two")], None),
    ] {
        assert_eq!(keys.tenant(&headers(presented)), expected, "{presented:?}");
    }
    // Who presents a line of the file, which is no secret, has no key.
    let line = headers(&[("x-api-key", &file::hex(&hash("one")))]);
    assert_eq!(keys.tenant(&line), None);
}

#[test]
fn a_new_key_is_long_and_random_and_its_line_lets_it_in() {
    let [one, two] = [NewKey::new("alice").unwrap(), NewKey::new("alice").unwrap()];
    assert_ne!(one.key(), two.key());
    let random = one.key().strip_prefix("pk-").unwrap();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{random}");
    let entries = parse(one.line(), &[]).unwrap();
    assert_eq!((&*entries[0].name, entries[0].hash), ("alice", hash(one.key())));
    for shown in [format!("{one:?}"), format!("{:?}", keys(&[("a", "one")]))] {
        assert!(!shown.contains(random) && !shown.contains("one"), "{shown}");
    }
}

#[test]
fn comments_and_blank_lines_are_nothing() {
    let entries =
        parse(&format!("# ours\n\n  {} # since May\r\n\t\n", text(&[("a", "1")]).trim()), &[]).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(parse("# none\n", &[]), Ok(Vec::new()));
}

#[test]
fn a_wrong_line_is_named_and_not_repeated() {
    let good = text(&[("alice", "one")]);
    let hex = "0".repeat(64);
    for (line, error) in [
        ("pk-secret".to_owned(), LineError::NotTwoWords),
        (format!("alice sha256:{hex} more"), LineError::NotTwoWords),
        ("alice pk-secret".to_owned(), LineError::NotAHash),
        (format!("alice md5:{hex}"), LineError::NotAHash),
        (format!("alice sha256:{hex}0"), LineError::NotAHash),
        (format!("alice sha256:{}+f", &hex[2..]), LineError::NotAHash),
        (format!("alice sha256:{}é", &hex[2..]), LineError::NotAHash),
        (format!("al/ice sha256:{hex}"), LineError::Name(KeyNameError)),
        (format!("{} sha256:{hex}", "a".repeat(65)), LineError::Name(KeyNameError)),
        (file::line("bob", &hash("one")), LineError::Twice(1)),
    ] {
        assert_eq!(parse(&format!("{good}\n{line}\n"), &[]), Err((3, error)), "{line}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn a_reload_keeps_the_numbers_of_names_and_gives_out_those_of_names_that_are_gone() {
    let numbers = |entries: &[Entry]| -> Vec<(String, u32)> {
        entries.iter().map(|entry| (entry.name.to_string(), entry.tenant.0)).collect()
    };
    let named = |of: &[(&str, u32)]| -> Vec<(String, u32)> {
        of.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    let first = parse(&text(&[("alice", "1"), ("bob", "2"), ("carol", "3")]), &[]).unwrap();
    assert_eq!(numbers(&first), named(&[("alice", 1), ("bob", 2), ("carol", 3)]));
    let second = parse(&text(&[("dora", "4"), ("carol", "5"), ("emil", "6"), ("bob", "2")]), &first).unwrap();
    assert_eq!(numbers(&second), named(&[("dora", 1), ("carol", 3), ("emil", 4), ("bob", 2)]));
}
