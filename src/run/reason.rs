//! Why releases were not stored, in a few words that can be counted.

use crateferry_pipeline::failure::Failure;
use crateferry_pipeline::flow::Stage as _;
use crateferry_pipeline::net::is_transient;
use crateferry_pipeline::stages::{Enforce, Fault, Store, WrongBytes};

/// The kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server plainly denies that there is such a file.
    Absent,
    /// The server is overloaded or out of order.
    Busy,
    /// No connection, or no answer.
    Network,
    /// The body came too slowly.
    Slow,
    /// The body was not as long as announced, or not as it was asked for.
    Cut,
    /// The body, or an operator's list, has another checksum than the index promises.
    Checksum,
    /// The rules about hosts.
    Forbidden,
    /// Larger than a crate file may be.
    TooLarge,
    /// The mirror's disk.
    Disk,
    /// Nothing comes from the upstream any more.
    Outage,
    /// None of these.
    Other,
}

impl Reason {
    /// All of them, each at its own number.
    pub const ALL: [Reason; 11] = [
        Reason::Absent,
        Reason::Busy,
        Reason::Network,
        Reason::Slow,
        Reason::Cut,
        Reason::Checksum,
        Reason::Forbidden,
        Reason::TooLarge,
        Reason::Disk,
        Reason::Outage,
        Reason::Other,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Absent => "absent",
            Reason::Busy => "busy",
            Reason::Network => "network",
            Reason::Slow => "slow",
            Reason::Cut => "cut",
            Reason::Checksum => "checksum",
            Reason::Forbidden => "forbidden",
            Reason::TooLarge => "too_large",
            Reason::Disk => "disk",
            Reason::Outage => "outage",
            Reason::Other => "other",
        }
    }

    /// The kind of a failure's cause.
    pub fn of(failure: &Failure) -> Reason {
        if let Some(fault) = failure.source.downcast_ref::<Fault>() {
            return Reason::of_fault(fault);
        }
        match failure.stage {
            Enforce::NAME => Reason::Checksum,
            Store::NAME => Reason::Disk,
            _ if failure.source.is::<WrongBytes>() => Reason::Checksum,
            _ => Reason::Other,
        }
    }

    fn of_fault(fault: &Fault) -> Reason {
        match fault {
            Fault::Status { status, .. } if is_transient(*status) => Reason::Busy,
            Fault::Status { .. } => Reason::Absent,
            Fault::Request(_) | Fault::NoAnswer(_) => Reason::Network,
            Fault::TooSlow(_) | Fault::TooLong(_) => Reason::Slow,
            Fault::Cut { .. } | Fault::Length { .. } | Fault::Encoded(_) => Reason::Cut,
            Fault::Forbidden(_) => Reason::Forbidden,
            Fault::TooLarge { .. } => Reason::TooLarge,
            Fault::Spool(_) => Reason::Disk,
            Fault::Outage(..) => Reason::Outage,
            Fault::StartOver | Fault::Stopped => Reason::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_reason_has_its_own_number_and_name() {
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(number, &reason)| reason as usize == number));
    }

    #[test]
    fn a_status_is_a_denial_or_a_busy_server() {
        let answer = |code| {
            let status = reqwest::StatusCode::from_u16(code).unwrap();
            Reason::of_fault(&Fault::Status { status, retry_after: None })
        };
        assert_eq!([404, 403, 410].map(answer), [Reason::Absent; 3]);
        assert_eq!([429, 500, 503].map(answer), [Reason::Busy; 3]);
        assert_eq!(Reason::of_fault(&Fault::TooLong(Duration::ZERO)), Reason::Slow);
    }
}
