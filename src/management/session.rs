//! The session of somebody who logged in at the page: a cookie with its end, signed by the token.
//!
//! Nothing of it is kept here, so that it outlives a restart of the balancer. It ends with its time, with the browser,
//! or with the token: another token signs differently. It is the one thing that wall time ends, for the same reason.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use hmac::Mac;
use subtle::ConstantTimeEq;

use super::token::Token;

/// The cookie's name.
const NAME: &str = "paddock_session";

/// From the log-in to the end.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// What is signed says what it is for, so that nothing else that the token signs can be taken for it.
const PURPOSE: &str = "paddock session until ";

/// The `Set-Cookie` of a log-in at this wall time. No script sees the cookie, no other site's page sends it, and it
/// is gone with the browser; a browser that came by TLS sends it by nothing else.
pub(super) fn set_cookie(token: &Token, wall: Duration, by_tls: bool) -> String {
    let value = value(token, wall.saturating_add(LIFE).as_secs());
    let secure = if by_tls { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// The `Set-Cookie` of a log-out.
pub(super) fn clear_cookie() -> String {
    format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// How much longer the request's session lasts; none without a session.
pub(super) fn left(token: &Token, headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    // Programs on other ports of this host may have set one of the same name: any that holds will do.
    let mut sessions = pairs.filter(|(name, _)| *name == NAME);
    sessions.find_map(|(_, presented)| {
        let (end, _) = presented.split_once('.')?;
        let end: u64 = end.parse().ok()?;
        let is_ours: bool = value(token, end).as_bytes().ct_eq(presented.as_bytes()).into();
        let left = Duration::from_secs(end).checked_sub(wall)?;
        (is_ours && !left.is_zero()).then_some(left)
    })
}

/// The end in seconds since the Unix epoch, and its signature.
fn value(token: &Token, end: u64) -> String {
    let mut signer = token.signer();
    signer.update(format!("{PURPOSE}{end}").as_bytes());
    let signature = signer.finalize().into_bytes();
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{end}.{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGGED_IN: Duration = Duration::from_secs(1_800_000_000);

    fn token(text: &str) -> Token {
        Token::new(text.to_owned())
    }

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|cookie| (COOKIE, cookie.parse().unwrap())).collect()
    }

    /// The cookie as a browser sends it back.
    fn sent(token: &Token) -> String {
        set_cookie(token, LOGGED_IN, false).split(';').next().unwrap().to_owned()
    }

    #[test]
    fn the_cookie_holds_no_token_and_is_for_the_browser_alone() {
        let cookie = set_cookie(&token("sesame"), LOGGED_IN, false);
        let (pair, flags) = cookie.split_once("; ").unwrap();
        assert_eq!(flags, "Path=/; HttpOnly; SameSite=Strict");
        let (end, signature) = pair.strip_prefix("paddock_session=").unwrap().split_once('.').unwrap();
        assert_eq!(end, "1800043200");
        assert!(
            signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{signature}"
        );
        assert!(!cookie.contains("sesame"));
        assert_eq!(set_cookie(&token("sesame"), LOGGED_IN, true), format!("{cookie}; Secure"));
        assert_eq!(clear_cookie(), "paddock_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    }

    #[test]
    fn a_session_lasts_for_its_time() {
        let token = token("sesame");
        let headers = headers(&[&sent(&token)]);
        let left_after = |seconds| left(&token, &headers, LOGGED_IN + Duration::from_secs(seconds));
        assert_eq!(left_after(0), Some(LIFE));
        assert_eq!(left_after(43_199), Some(Duration::from_secs(1)));
        assert_eq!(left_after(43_200), None);
        assert_eq!(left_after(50_000), None);
    }

    #[test]
    fn a_session_dies_with_its_token() {
        let headers = headers(&[&sent(&token("sesame"))]);
        assert_eq!(left(&token("another"), &headers, LOGGED_IN), None);
        assert_eq!(left(&token("sesame"), &headers, LOGGED_IN), Some(LIFE), "and not with the process");
    }

    #[test]
    fn nothing_that_was_not_signed_is_a_session() {
        let token = token("sesame");
        let good = sent(&token);
        let later = good.replace("1800043200", "1800043201");
        let digit = if good.ends_with('0') { '1' } else { '0' };
        let other = format!("{}{digit}", &good[..good.len() - 1]);
        let of_name = good.replace("paddock_session", "session");
        for cookie in [
            "",
            "paddock_session",
            "paddock_session=",
            "paddock_session=.",
            "paddock_session=sesame",
            "paddock_session=1800043200.",
            &later,
            &other,
            &of_name,
            &good.to_uppercase(),
            &good.replace("180", "+180"),
            &format!("{good}0"),
        ] {
            assert_eq!(left(&token, &headers(&[cookie]), LOGGED_IN), None, "{cookie}");
        }
        for cookies in [
            &[&*format!("theme=dark; {good}; x=y")][..],
            &["theme=dark", &good],
            &[&format!("paddock_session=stale;{good}")],
        ] {
            assert_eq!(left(&token, &headers(cookies), LOGGED_IN), Some(LIFE), "{cookies:?}");
        }
    }
}
