//! Paths that must not be reached, in many spellings; `src/proxy/classify/tests.rs` has more of them.

use super::case::{Case, case, get};

pub fn cases() -> Vec<Case> {
    let blocked = |name, path: &str| case(name, get(path, "")).answered(403);
    let mut cases = vec![
        blocked("/slots", "/slots"),
        blocked("a slot", "/slots/0"),
        blocked("a slot with a query", "/slots?fail_on_no_slot=1"),
        blocked("/tools", "/tools"),
        blocked("below /tools", "/tools/x"),
        blocked("/cors-proxy", "/cors-proxy?url=http://169.254.169.254/"),
        blocked("blocked in capitals", "/SLOTS"),
        blocked("blocked with a slash behind", "/slots/"),
        blocked("blocked with two slashes", "//slots"),
        blocked("blocked with many slashes", "////tools///x"),
        blocked("blocked with a dot", "/./slots"),
        blocked("blocked with two dots", "/x/../slots"),
        blocked("blocked with encoded dots", "/x/%2e%2e/slots"),
        blocked("blocked with half-encoded dots", "/x/.%2E/slots"),
        blocked("blocked above the root", "/../../slots"),
        blocked("blocked with an encoded letter", "/%73lots"),
        blocked("blocked with all letters encoded", "/%73%6c%6f%74%73"),
        blocked("blocked and encoded twice", "/%2573lots"),
        blocked("blocked and encoded three times", "/%252573lots"),
        blocked("blocked and encoded too often", "/%2525252573lots"),
        blocked("blocked with an encoded slash", "/%2fslots"),
        blocked("blocked with an encoded slash behind", "/slots%2f0"),
        blocked("blocked with a backslash", "/\\slots"),
        blocked("blocked with an encoded backslash", "/x%5c..%5cslots"),
        blocked("blocked with a parameter", "/slots;x=y"),
        blocked("blocked with an encoded NUL", "/slots%00"),
        blocked("blocked with an encoded blank", "/slots%20"),
        blocked("blocked with an encoded newline", "/slots%0a"),
        blocked("blocked with an encoded question mark", "/slots%3fx"),
        blocked("blocked with an overlong slash", "/x%c0%af..%c0%afslots"),
        blocked("blocked with a %u escape", "/%u0073lots"),
        blocked("blocked and left again", "/tools/../health"),
        blocked("blocked with a dash encoded", "/cors%2dproxy"),
    ];
    for (name, method) in [("POST", "POST"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS"), ("DELETE", "DELETE")] {
        // An answer to HEAD has no body to be read, so it is left out of the connection's further use.
        if method != "HEAD" {
            let sent = format!("{method} /tools HTTP/1.1\r\nHost: g\r\n\r\n");
            cases.push(case(name, sent).answered(403));
        }
    }
    cases.push(case("a path that only looks like it", get("/toolsmith", "")).passes(
        "GET /toolsmith",
        &[],
        "",
    ));
    cases.push(case("the gateway's own", get("/health", "")).answered(200));
    cases
}
