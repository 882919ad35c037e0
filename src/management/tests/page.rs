//! The page, and who is let in to it.

use super::super::fixture::Served;
use super::{message, paddler, status};
use crate::clock::Clock;

const PAGE: &str = "<!doctype html>";
/// All that the page may do; more may be forbidden.
const POLICY: [&str; 8] = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
];

fn is_guarded(answer: &str) {
    let policy: Vec<&str> = header(answer, "content-security-policy").split("; ").map(str::trim).collect();
    assert!(POLICY.iter().all(|directive| policy.contains(directive)), "{policy:?}");
    let allows = |directive: &&&str| directive.contains("-src ") && !POLICY.contains(*directive);
    assert_eq!(policy.iter().find(allows), None);
    assert_eq!(header(answer, "x-content-type-options"), "nosniff");
    // Not `no-referrer`: the form's Origin would be null.
    assert_eq!(header(answer, "referrer-policy"), "same-origin");
}

/// A header of an answer; empty if it is missing.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_default()
}

fn is_form(answer: &str) -> bool {
    answer.contains(PAGE) && answer.contains("action=\"/dashboard/login\"")
}

fn is_page(answer: &str) -> bool {
    answer.contains(PAGE) && !answer.contains("action=\"/dashboard/login\"")
}

/// The cookie that a log-in sets, as a browser sends it back.
fn cookie(answer: &str) -> String {
    assert_eq!((status(answer), header(answer, "location")), ("303", "/dashboard"), "{answer}");
    format!("Cookie: {}\r\n", header(answer, "set-cookie").split(';').next().unwrap())
}

async fn logged_in(served: &Served) -> String {
    cookie(&served.form("/dashboard/login", "", "token=sesame").await)
}

#[tokio::test]
async fn the_page_is_served_with_its_guards() {
    let served = Served::with_page(None).await;
    for (path, content_type) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = served.ask("GET", path, "").await;
        assert_eq!(status(&answer), "200", "{answer}");
        let etag = header(&answer, "etag").to_owned();
        is_guarded(&answer);
        assert_eq!(
            (header(&answer, "content-type"), header(&answer, "cache-control")),
            (content_type, "no-cache")
        );
        for (known, code) in [
            (etag.clone(), "304"),
            (format!("W/{etag}"), "304"),
            (format!("\"other\", {etag}"), "304"),
            ("\"other\"".to_owned(), "200"),
        ] {
            let again = served.ask("GET", path, &format!("If-None-Match: {known}\r\n")).await;
            assert_eq!((status(&again), header(&again, "etag")), (code, &*etag), "{known}");
            assert_eq!(again.ends_with("\r\n\r\n"), code == "304", "{again}");
            is_guarded(&again);
        }
    }
    assert!(is_page(&served.ask("GET", "/dashboard", "").await));
    let root = served.ask("GET", "/", "").await;
    assert_eq!((status(&root), header(&root, "location")), ("303", "/dashboard"));
    assert_eq!(status(&served.ask("POST", "/dashboard", "").await), "405");
    // Nobody has to log in.
    let answer = served.form("/dashboard/login", "", "token=x").await;
    assert_eq!((status(&answer), header(&answer, "set-cookie")), ("303", ""));
}

/// Styles and scripts within a page would not run, what is elsewhere would not be loaded, and nothing is to be kept.
#[test]
fn the_page_needs_no_more_than_its_policy_allows() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard/web");
    let files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let of = |kind: &'static str| files.iter().filter(move |(name, _)| name.ends_with(kind));
    let mut seen = 0;
    for (name, page) in of(".html") {
        seen += 1;
        for forbidden in
            ["<style", "style=", " on", "javascript:", "http://", "https://", "data:", "no-referrer"]
        {
            let is_there = match forbidden {
                // Handlers: ` onclick=`, ` onload=`.
                " on" => page.split(" on").skip(1).any(|rest| rest.split_once('=').is_some_and(is_word)),
                _ => page.contains(forbidden),
            };
            assert!(!is_there, "{name}: {forbidden}");
        }
        for script in page.split("<script").skip(1) {
            assert!(
                script.split_once('>').is_some_and(|(tag, _)| tag.contains("src=\"/dashboard/")),
                "{name}"
            );
        }
    }
    for (name, script) in of(".js") {
        seen += 1;
        for forbidden in
            ["localStorage", "sessionStorage", "indexedDB", "document.cookie", "innerHTML", "eval("]
        {
            assert!(!script.contains(forbidden), "{name}: {forbidden}");
        }
    }
    assert!(seen >= 3);
    let login = std::fs::read_to_string(format!("{folder}/login.html")).unwrap();
    assert_eq!(login.matches("{{error}}").count(), 1);
    for needed in ["method=\"post\"", "action=\"/dashboard/login\"", "name=\"token\""] {
        assert!(login.contains(needed), "{needed}");
    }
}

/// Whether the text before an equals sign is one word.
fn is_word((name, _): (&str, &str)) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[tokio::test]
async fn a_page_that_is_off_says_how_it_is_switched_on() {
    for token in [None, Some("sesame")] {
        let served = Served::start(token).await;
        for path in ["/dashboard", "/dashboard/app.js"] {
            let answer = served.ask("GET", path, "").await;
            assert_eq!(status(&answer), "404", "{answer}");
            assert!(message(&answer).contains("--management-dashboard-enable"), "{answer}");
        }
        for path in ["/dashboard/login", "/dashboard/logout"] {
            let answer = served.form(path, "", "token=sesame").await;
            assert_eq!((status(&answer), header(&answer, "set-cookie")), ("404", ""), "{answer}");
        }
        let root = served.ask("GET", "/", "").await;
        assert!(status(&root) == "404" && message(&root).contains("/status_update/"), "{root}");
    }
}

#[tokio::test]
async fn with_a_token_the_page_is_a_form_until_somebody_logs_in() {
    let served = Served::with_page(Some("sesame")).await;
    let form = served.ask("GET", "/dashboard", "").await;
    assert!(status(&form) == "200" && is_form(&form) && !form.contains("alert"), "{form}");
    is_guarded(&form);
    assert_eq!(header(&form, "cache-control"), "no-store");
    for path in ["/dashboard/app.js", "/dashboard/style.css", "/dashboard/icon.svg"] {
        assert_eq!(status(&served.ask("GET", path, "").await), "200", "{path}");
    }

    let wrong = served.form("/dashboard/login", "", "token=sesam").await;
    assert!(status(&wrong) == "401" && is_form(&wrong), "{wrong}");
    assert!(wrong.contains("role=\"alert\">This is not the management token"), "{wrong}");
    assert_eq!((header(&wrong, "set-cookie"), header(&wrong, "cache-control")), ("", "no-store"));
    for body in ["", "token=", "sesame", "other=sesame", "token=wrong&token=sesame"] {
        assert_eq!(status(&served.form("/dashboard/login", "", body).await), "401", "{body}");
    }

    let cookie = logged_in(&served).await;
    let page = served.ask("GET", "/dashboard", &cookie).await;
    assert!(status(&page) == "200" && is_page(&page), "{page}");
    for path in ["/api/v1/state", "/api/v1/agents", "/api/v1/timeline", "/metrics"] {
        assert_eq!(status(&served.ask("GET", path, &cookie).await), "200", "{path}");
        assert_eq!(status(&served.ask("GET", path, "").await), "401", "{path}");
    }
    // The page offers to log out where there is a session.
    for (credential, told) in [(cookie.as_str(), "1"), ("Authorization: Bearer sesame\r\n", "")] {
        let timeline = served.ask("GET", "/api/v1/timeline", credential).await;
        assert_eq!((status(&timeline), header(&timeline, "x-paddock-session")), ("200", told));
    }
    // A browser that knows the page asks whether it is still the same: the form is another.
    let etag = header(&page, "etag");
    let form = served.ask("GET", "/dashboard", &format!("If-None-Match: {etag}\r\n")).await;
    assert!(status(&form) == "200" && is_form(&form), "{form}");
}

#[tokio::test]
async fn the_session_is_one_cookie_for_the_browser_alone() {
    let served = Served::with_page(Some("sesame")).await;
    let host = served.address;
    for (origin, secure) in [("http", ""), ("https", "; Secure")] {
        let origin = format!("Origin: {origin}://{host}\r\n");
        let answer = served.form("/dashboard/login", &origin, "token=sesame").await;
        assert_eq!(answer.matches("set-cookie").count(), 1);
        let (pair, flags) = header(&answer, "set-cookie").split_once("; ").unwrap();
        assert_eq!(flags, format!("Path=/; HttpOnly; SameSite=Strict{secure}"));
        assert!(pair.starts_with("paddock_session=") && !answer.contains("sesame"), "{answer}");
    }
    let out = served.form("/dashboard/logout", "", "").await;
    assert_eq!((status(&out), header(&out, "location")), ("303", "/dashboard"));
    assert_eq!(header(&out, "set-cookie"), "paddock_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
}

#[tokio::test]
async fn a_token_of_any_characters_can_be_entered() {
    let served = Served::with_page(Some("a+b&c=d%e")).await;
    cookie(&served.form("/dashboard/login", "", "token=a%2Bb%26c%3Dd%25e").await);
    // As it is pasted, with the end of its line.
    cookie(&served.form("/dashboard/login", "", "token=a%2Bb%26c%3Dd%25e%0D%0A").await);
}

#[tokio::test]
async fn a_session_registers_no_agent() {
    let served = Served::with_page(Some("sesame")).await;
    let cookie = logged_in(&served).await;
    let mut stream = served.stream_with("a", &cookie).await;
    stream.chunk(&paddler(1)).await;
    stream.write("0\r\n\r\n").await;
    let answer = stream.answer().await;
    assert_eq!(status(&answer), "401", "{answer}");
    assert_eq!(served.agents(), (0, 0));
}

#[tokio::test]
async fn another_sites_page_logs_nobody_in_or_out() {
    let served = Served::with_page(Some("sesame")).await;
    for origin in ["http://evil.example", "null"] {
        let origin = format!("Origin: {origin}\r\n");
        for path in ["/dashboard/login", "/dashboard/logout"] {
            let answer = served.form(path, &origin, "token=sesame").await;
            assert_eq!((status(&answer), header(&answer, "set-cookie")), ("403", ""), "{answer}");
        }
        let answer =
            served.ask("GET", "/api/v1/state", &format!("{origin}{}", logged_in(&served).await)).await;
        assert_eq!(status(&answer), "403");
    }
}

#[tokio::test]
async fn a_log_in_is_short() {
    let served = Served::with_page(Some("sesame")).await;
    let long = served.form("/dashboard/login", "", &format!("token={}", "x".repeat(100_000))).await;
    assert!(status(&long) == "400" && is_form(&long) && long.contains("role=\"alert\""), "{long}");
}

#[tokio::test(start_paused = true)]
async fn a_log_in_comes_in_time() {
    let served = Served::piped(Some("sesame"), true);
    let clock = Clock::start();
    let mut slow = served.stream_to("/dashboard/login").await;
    slow.chunk("token=ses").await;
    let answer = slow.answer().await;
    assert!(status(&answer) == "400" && is_form(&answer), "{answer}");
    assert!((10..20).contains(&clock.mono().0.as_secs()), "{:?}", clock.mono());
}
