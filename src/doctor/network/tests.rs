use super::super::report::Verdict;
use super::*;

fn answer(status: u16, body: &str) -> Result<Answer, AskError> {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Answer { status, date: None, has_request_id: false, body: body.as_bytes().to_vec() })
}

/// The same with the header that all of the proxy's answers have.
fn answer_of_ours(status: u16, body: &str) -> Result<Answer, AskError> {
    answer(status, body).map(|answer| Answer { has_request_id: true, ..answer })
}

fn line(check: &Check) -> String {
    format!("{:?} {}; {}", check.verdict, check.found, check.mend.as_deref().unwrap_or_default())
}

#[test]
fn a_proxy_is_told_from_whatever_else_answers() {
    let ours = r#"{"status":"ok","requests_buffered":0,"requests_processing":0}"#;
    let refused = |code: &str| format!(r#"{{"error":{{"message":"no","type":"error","code":"{code}"}}}}"#);
    for (answer, is_secure, says) in [
        (
            answer_of_ours(429, &refused("too_many_connections")),
            false,
            "Warn Paddock refuses: too many connections from here; end some of them, or raise",
        ),
        (
            answer_of_ours(503, &refused("shutting_down")),
            true,
            "Warn Paddock refuses: shutting_down; look at",
        ),
        (answer_of_ours(429, &refused("rate_limited")), false, "Fail answers /health with 429, but not as"),
        (answer(429, &refused("too_many_connections")), false, "Fail answers /health with 429, but not as"),
        (
            answer_of_ours(429, r#"{"error":{"code":429}}"#),
            false,
            "Fail answers /health with 429, but not as",
        ),
        (answer(200, ours), false, "Ok answers /health"),
        (answer(200, ours), true, "Warn answers /health in the clear"),
        (answer(400, "this port speaks TLS: use https"), true, "Ok answers, and speaks TLS"),
        (answer(400, "this port speaks TLS: use https"), false, "Ok answers, and speaks TLS"),
        (answer(400, "no"), true, "Fail answers /health with 400, but not as Paddock does"),
        (answer(200, r#"{"status":"ok"}"#), false, "Fail answers /health with 200, but not as Paddock does"),
        (
            Err(AskError::Unreachable("refused".to_owned())),
            false,
            "Fail cannot connect (refused); start the balancer",
        ),
        (Err(AskError::Filtered), false, "open the port in the security group"),
        (
            Err(AskError::Late),
            false,
            "Fail it took the connection, and did not answer within 5 s; look at the log",
        ),
        (Err(AskError::Broken("reset".to_owned())), false, "Fail its answer broke off (reset)"),
        (Err(AskError::Unknown("the name is not known".to_owned())), false, "or the name's entry in the DNS"),
    ] {
        let told = line(&judge_proxy("x", &answer, is_secure));
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn a_management_address_answers_200() {
    assert_eq!(judge_management("x", &answer(200, "")).verdict, Verdict::Ok);
    assert!(line(&judge_management("x", &answer(404, ""))).starts_with("Fail answers /health with 404"));
    assert_eq!(judge_management("x", &Err(AskError::Late)).verdict, Verdict::Fail);
}

fn state(version: &str) -> State {
    State { version: version.to_owned(), agents: Vec::new(), pools: Vec::new(), cloudwatch: None }
}

#[test]
fn a_token_is_accepted_refused_missing_or_not_needed() {
    let own = env!("CARGO_PKG_VERSION");
    for (told, version, has_token, is_open, says) in [
        (answer(200, ""), Some(own), true, false, "the token is accepted"),
        (answer(200, ""), Some(own), false, false, "no token is wanted"),
        (answer(200, ""), Some(own), true, true, "Warn everybody is served there, without the token too"),
        (answer(200, ""), Some("0.0.1"), true, false, "Warn it is Paddock 0.0.1, and this is"),
        (answer(200, ""), None, true, false, "Fail answers /api/v1/state with 200: llama.cpp, Paddler"),
        (answer(401, ""), None, true, false, "Fail the token is refused (401)"),
        (answer(401, ""), None, false, false, "Fail a token is wanted (401), and none is given"),
        (answer(403, ""), None, false, false, "Fail it does not serve this name"),
        (answer(404, ""), None, false, false, "Fail answers /api/v1/state with 404"),
        (Err(AskError::Late), None, false, false, "Fail it took the connection"),
    ] {
        let state = version.map(state);
        let told = line(&judge_token("x", &told, state.as_ref(), has_token, is_open));
        assert!(told.contains(says), "{says}: {told}");
    }
}

#[test]
fn an_agent_that_is_not_well_is_named() {
    let agent = |error: Option<&str>, is_authorized, is_slots_endpoint_enabled| Agent {
        agent_name: None,
        agent_id: "a-1".to_owned(),
        error: error.map(str::to_owned),
        is_authorized,
        is_slots_endpoint_enabled,
        slots_total: 2,
    };
    let well = || agent(None, Some(true), Some(true));
    for (agents, says) in [
        (vec![], "Ok none is registered"),
        (vec![well()], "Ok 1 is registered, with 2 slots"),
        (vec![well(), well()], "Ok 2 are registered, with 4 slots"),
        (
            vec![well(), agent(None, Some(false), None)],
            "Warn 2 are registered, with 4 slots; a-1: llama.cpp refuses its key",
        ),
        (vec![agent(None, None, Some(false))], "/slots is off; start llama-server with --slots"),
        (vec![agent(Some("it hangs"), None, None)], "a-1: it hangs; run paddock doctor on its machine"),
    ] {
        let told = line(&judge_agents("x", &agents));
        assert!(told.contains(says), "{says}: {told}");
    }
}

#[tokio::test]
async fn whoever_listens_everywhere_is_asked_here() {
    let placed = async |text: &str| place(&crate::config::peer(text).unwrap()).await;
    assert_eq!(placed("0.0.0.0:8085").await.unwrap(), "127.0.0.1:8085");
    assert_eq!(placed("[::]:8085").await.unwrap(), "[::1]:8085");
    assert_eq!(placed("127.0.0.9:1").await.unwrap(), "127.0.0.9:1");
    let label = "a-label-of-more-than-63-bytes-is-no-name-and-no-server-is-asked-for-it";
    let error = placed(&format!("{label}:80")).await.unwrap_err();
    assert!(error.to_string().contains("the name is not known"), "{error}");
}
