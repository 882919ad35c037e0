//! The llama.cpp of an agent's machine, asked as the agent asks it.

use futures_util::future::OptionFuture;

use super::DoctorConfig;
use super::report::Check;
use crate::agent::{Imds, Probe, Server};
use crate::config::HostPort;
use crate::protocol::Phase;

pub(super) async fn look(config: &DoctorConfig) -> Vec<Check> {
    let key = || config.llamacpp_api_key.clone();
    let own = config.llamacpp.as_ref().map(async |address| {
        let probe = probe(address, key()).await;
        judge(&address.to_string(), probe.as_ref(), config.llamacpp_api_key.is_some())
    });
    let external =
        config.llamacpp_external.as_ref().filter(|&external| config.llamacpp.as_ref() != Some(external));
    let external = external
        .map(async |address| judge_external(&address.to_string(), probe(address, key()).await.as_ref()));
    let (own, external) = tokio::join!(OptionFuture::from(own), OptionFuture::from(external));
    own.into_iter().flatten().chain(external).collect()
}

/// What the server says; or why it cannot be asked.
async fn probe(address: &HostPort, key: Option<String>) -> Result<Probe, String> {
    let located = Imds::from_environment().locate(address).await.map_err(|error| error.to_string())?;
    let server = Server::new(located.into_string(), key);
    let mut server = server.map_err(|error| format!("no HTTP client ({error})"))?;
    Ok(server.probe().await)
}

/// `llamacpp`, and `slots` where it is up.
fn judge(subject: &str, probe: Result<&Probe, &String>, has_key: bool) -> Vec<Check> {
    const NAME: &str = "llamacpp";
    const SLOTS: &str = "slots";
    let probe = match probe {
        Ok(probe) => probe,
        Err(why) => return vec![Check::fail(NAME, subject, why, "mend --local-llamacpp-addr")],
    };
    let error = probe.error.as_deref().unwrap_or("it is not well, and does not say why");
    let up = || Check::ok(NAME, subject, "answers /health: its model is loaded");
    match probe.phase {
        Phase::Ready => vec![up(), judge_slots(subject, probe)],
        Phase::Loading => {
            vec![Check::warn(NAME, subject, "it is loading its model (503)", "wait, and run this again")]
        }
        Phase::Starting => {
            vec![Check::fail(NAME, subject, error, "start llama-server, or mend --local-llamacpp-addr")]
        }
        Phase::Failing if probe.is_authorized == Some(false) => {
            let (found, mend) = match has_key {
                true => (
                    "it refuses the key (401)",
                    "give --llamacpp-api-key the key that llama-server was started with",
                ),
                false => ("it wants a key (401), and none is given", "give --llamacpp-api-key"),
            };
            vec![up(), Check::fail(SLOTS, subject, found, mend)]
        }
        Phase::Failing if probe.is_slots_endpoint_enabled == Some(false) => {
            let mend = "start llama-server with --slots, and without --no-slots";
            vec![up(), Check::fail(SLOTS, subject, "its /slots is off (501)", mend)]
        }
        Phase::Failing => vec![Check::fail(
            NAME,
            subject,
            error,
            "see llama-server's log; a version of 2024 or later is needed, started with --slots",
        )],
    }
}

fn judge_slots(subject: &str, probe: &Probe) -> Check {
    const NAME: &str = "slots";
    let busy = probe.slots.iter().filter(|slot| slot.is_processing).count();
    match probe.slots.len() {
        0 => Check::fail(NAME, subject, "it has none", "start llama-server with --parallel 1 or more"),
        1 => Check::ok(NAME, subject, format!("1, {busy} busy: requests are answered one after the other")),
        several => Check::ok(NAME, subject, format!("{several}, {busy} busy")),
    }
}

/// What balancers are told to send requests to. From the machine itself it is reached if llama-server listens there; whether
/// a firewall lets others in does not show.
fn judge_external(subject: &str, probe: Result<&Probe, &String>) -> Check {
    const NAME: &str = "external-llamacpp";
    match probe {
        Ok(probe) if probe.has_answered => Check::ok(
            NAME,
            subject,
            "answers from here; that the balancer may reach it, a security group must allow",
        ),
        Ok(probe) => Check::fail(
            NAME,
            subject,
            probe.error.as_deref().unwrap_or("it does not answer"),
            "start llama-server with --host 0.0.0.0, or mend --external-llamacpp-addr",
        ),
        Err(why) => Check::fail(NAME, subject, why, "mend --external-llamacpp-addr"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use crate::protocol::SlotStatus;

    fn of(phase: Phase) -> Probe {
        Probe {
            phase,
            has_answered: true,
            slots: Vec::new(),
            is_authorized: None,
            is_slots_endpoint_enabled: None,
            error: None,
        }
    }

    fn ready(slots: i64) -> Probe {
        let slots = (0..slots).map(|id| SlotStatus { id, is_processing: id == 0 }).collect();
        Probe { slots, ..of(Phase::Ready) }
    }

    #[test]
    fn each_state_of_a_server_has_its_verdict() {
        let refused = Probe { is_authorized: Some(false), ..of(Phase::Failing) };
        let off = Probe { is_slots_endpoint_enabled: Some(false), ..of(Phase::Failing) };
        let broken =
            Probe { error: Some("it answered /health with status 404".to_owned()), ..of(Phase::Failing) };
        let ended = Probe { error: Some("cannot connect".to_owned()), ..of(Phase::Starting) };
        for (probe, has_key, verdicts, says) in [
            (ready(4), false, &[Verdict::Ok, Verdict::Ok][..], "4, 1 busy"),
            (ready(1), false, &[Verdict::Ok, Verdict::Ok], "one after the other"),
            (ready(0), false, &[Verdict::Ok, Verdict::Fail], "--parallel"),
            (of(Phase::Loading), false, &[Verdict::Warn], "loading its model"),
            (ended, false, &[Verdict::Fail], "cannot connect; start llama-server"),
            (refused.clone(), false, &[Verdict::Ok, Verdict::Fail], "none is given; give --llamacpp-api-key"),
            (refused, true, &[Verdict::Ok, Verdict::Fail], "it refuses the key (401)"),
            (
                off,
                false,
                &[Verdict::Ok, Verdict::Fail],
                "its /slots is off (501); start llama-server with --slots",
            ),
            (broken, false, &[Verdict::Fail], "status 404"),
        ] {
            let checks = judge("x", Ok(&probe), has_key);
            assert_eq!(checks.iter().map(|check| check.verdict).collect::<Vec<_>>(), verdicts, "{probe:?}");
            let last = checks.last().unwrap();
            let line = format!("{}; {}", last.found, last.mend.as_deref().unwrap_or_default());
            assert!(line.contains(says), "{line}");
        }
    }

    #[test]
    fn an_address_for_balancers_must_be_listened_on() {
        assert_eq!(judge_external("x", Ok(&of(Phase::Loading))).verdict, Verdict::Ok);
        let silent = Probe { has_answered: false, error: Some("refused".to_owned()), ..of(Phase::Starting) };
        let check = judge_external("x", Ok(&silent));
        assert_eq!((check.verdict, check.found.as_str()), (Verdict::Fail, "refused"));
        assert!(check.mend.unwrap().contains("--host 0.0.0.0"));
        assert_eq!(judge_external("x", Err(&"no metadata".to_owned())).verdict, Verdict::Fail);
    }
}
