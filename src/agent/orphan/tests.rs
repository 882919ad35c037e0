use super::*;

const TIMEOUT: Duration = Duration::from_secs(900);

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

/// Nobody is there, and the server was looked at this moment.
fn alone(now: u64) -> Seen {
    Seen { is_registered: false, is_busy: false, is_ended_by_aws: false, sampled: Some(at(now)) }
}

fn registered(now: u64) -> Seen {
    Seen { is_registered: true, ..alone(now) }
}

fn busy(now: u64) -> Seen {
    Seen { is_busy: true, ..alone(now) }
}

fn until(seconds: u64) -> Verdict {
    Verdict::Until(Some(at(seconds)))
}

#[test]
fn an_agent_that_never_had_company_is_an_orphan_after_the_time() {
    let mut vigil = Vigil::new(TIMEOUT, at(100));
    assert_eq!(vigil.look(alone(100), at(100)), until(1000));
    assert_eq!(vigil.look(alone(999), at(999)), until(1000));
    assert_eq!(vigil.look(alone(1000), at(1000)), Verdict::End);
}

#[test]
fn a_balancer_or_work_begins_the_time_again_when_it_ends() {
    for company in [registered, busy] {
        let mut vigil = Vigil::new(TIMEOUT, at(0));
        assert_eq!(vigil.look(company(899), at(899)), Verdict::Until(None));
        assert_eq!(vigil.look(company(9000), at(9000)), Verdict::Until(None));
        // Nothing was looked at in between, so it may have ended only now.
        assert_eq!(vigil.look(alone(10_000), at(10_000)), until(10_900));
        assert_eq!(vigil.look(company(10_899), at(10_899)), Verdict::Until(None));
        assert_eq!(vigil.look(alone(10_900), at(10_900)), until(11_800));
        assert_eq!(vigil.look(alone(11_800), at(11_800)), Verdict::End);
    }
}

#[test]
fn the_server_is_looked_at_after_the_time_is_up() {
    let mut vigil = Vigil::new(TIMEOUT, at(0));
    let never = Seen { sampled: None, ..alone(0) };
    assert_eq!(vigil.look(never, at(900)), Verdict::Until(None));
    assert_eq!(vigil.look(alone(899), at(1000)), Verdict::Until(None));
    assert_eq!(vigil.look(busy(1001), at(1001)), Verdict::Until(None));
    assert_eq!(vigil.look(alone(1002), at(1002)), until(1902));
}

#[test]
fn what_aws_ends_is_left_to_it() {
    let mut vigil = Vigil::new(TIMEOUT, at(0));
    let ending = Seen { is_ended_by_aws: true, ..alone(5000) };
    assert_eq!(vigil.look(ending, at(5000)), Verdict::Until(None));
    // It was taken back: the time has gone on.
    assert_eq!(vigil.look(alone(5001), at(5001)), Verdict::End);
}

#[test]
fn a_failed_attempt_is_repeated_after_pauses_that_grow() {
    let mut vigil = Vigil::new(TIMEOUT, at(0));
    let mut now = at(900);
    for pause in [10, 20, 40, 80, 160, 300, 300] {
        let fresh = Seen { sampled: Some(now), ..alone(0) };
        assert_eq!(vigil.look(fresh, now), Verdict::End);
        vigil.failed(now, 1.0);
        let next = now + Duration::from_secs(pause);
        assert_eq!(vigil.look(fresh, now), Verdict::Until(Some(next)));
        // An old look at the server does not do.
        assert_eq!(vigil.look(fresh, next), Verdict::Until(None));
        now = next;
    }
    // Company ends the attempts, and the next ones begin afresh.
    vigil.look(registered(5000), at(5000));
    assert_eq!(vigil.look(alone(5000), at(5000)), until(5900));
    assert_eq!(vigil.look(alone(5900), at(5900)), Verdict::End);
    vigil.failed(at(5900), 0.0);
    assert_eq!(vigil.look(alone(5900), at(5900)), until(5905));
}
