//! Labels whose values are all known. So each series is there from the start, at zero: what begins only with its first
//! event has no rate at that event.

/// A label of an instrument.
pub trait Label: Copy + 'static {
    /// What the label is called.
    const NAME: &'static str;
    /// All that it may be.
    const ALL: &'static [Self];

    /// Its place among all.
    fn place(self) -> usize;

    /// As it is published.
    fn value(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident = $label:literal { $($(#[$what:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$what])* $variant,)+ }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = Self::ALL;

            fn place(self) -> usize {
                self as usize
            }

            fn value(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
        }
    };
}

label! {
    /// How a client's request ended. What the gateway refuses ends with its error's code.
    Outcome = "outcome" {
        /// A server's answer was passed on to its end, whatever its status.
        Served = "served",
        /// The client went away before the end.
        Cancelled = "cancelled",
        /// A server's answer broke off after it had begun.
        Broken = "broken",
        /// The gateway answered without a server.
        Own = "own",
        /// The request is malformed.
        BadRequest = "bad_request",
        /// It asks for another protocol.
        UpgradeRefused = "upgrade_refused",
        /// Its key is missing or wrong.
        InvalidApiKey = "invalid_api_key",
        /// Its path is not served.
        Forbidden = "forbidden",
        /// It neither waits nor wakes, and no server runs.
        NoServer = "no_server",
        /// The same, at a path that is not known.
        NotFound = "not_found",
        /// Its body is too large.
        RequestTooLarge = "request_too_large",
        /// Its head did not come in time.
        HeadTimeout = "head_timeout",
        /// Its body did not come in time.
        BodyTimeout = "body_timeout",
        /// Its address has too many connections.
        TooManyConnections = "too_many_connections",
        /// The queue or the buffer is full.
        QueueFull = "queue_full",
        /// It waited too long, or would have.
        QueueTimeout = "queue_timeout",
        /// No server can be had.
        NoCapacity = "no_capacity",
        /// An instance would cost more than the day may.
        BudgetExhausted = "budget_exhausted",
        /// No agent is registered, and nothing may wait.
        NoAgents = "no_agents",
        /// The gateway ends.
        ShuttingDown = "shutting_down",
        /// Servers failed it.
        UpstreamFailed = "upstream_failed",
        /// A server did not begin its answer in time.
        UpstreamTimeout = "upstream_timeout",
    }
}

label! {
    /// How a server failed a request.
    UpstreamError = "kind" {
        /// No connection could be made.
        CouldNotConnect = "could_not_connect",
        /// It still loaded the model.
        NotReady = "not_ready",
        /// The connection ended without an answer.
        Died = "died",
        /// The answer did not begin in time.
        Timeout = "timeout",
        /// The answer broke off.
        Broken = "broken",
    }
}

label! {
    /// What came of a call for an instance.
    WakeResult = "result" {
        /// The fleet took it.
        Succeeded = "succeeded",
        /// The fleet refused it.
        Failed = "failed",
        /// Its answer was lost.
        Unknown = "unknown",
    }
}

label! {
    /// How a call to AWS ended.
    CallResult = "result" {
        /// It was done.
        Ok = "ok",
        /// AWS asks for fewer calls.
        Throttled = "throttled",
        /// AWS will not do it.
        Refused = "refused",
        /// AWS failed, or its answer cannot be read.
        Failed = "failed",
        /// No answer came, or nothing could be sent.
        Unanswered = "unanswered",
    }
}

label! {
    /// What an instance is good for.
    State = "state" {
        /// Asked for; none is shown yet.
        Launching = "launching",
        /// There, and not yet of use.
        Booting = "booting",
        /// It serves.
        Serving = "serving",
        /// It gets nothing new.
        Draining = "draining",
        /// Its fleet ends it.
        Ending = "ending",
        /// On standby, or kept warm.
        Aside = "aside",
    }
}

label! {
    /// The phases of a boot, in their order, and all of it.
    BootPart = "phase" {
        /// Until the fleet launched the machine.
        Call = "call",
        /// Until its kernel came up.
        Pending = "pending",
        /// Until its agent started.
        Boot = "boot",
        /// Until its llama.cpp answered.
        Service = "service",
        /// Until its llama.cpp had loaded the model.
        Load = "load",
        /// Until its slots were known here.
        Register = "register",
        /// From the call to the first slot.
        Total = "total",
    }
}
