//! Saying that an interface is ready in ovn-controller's place.
//!
//! A CNI waits for `external_ids:ovn-installed=true` on the interface before
//! anything is started on it (ovn-controller(8)); Kube-OVN's CNI ADD does.
//! ovn-controller sets it for a port that it has claimed, and the target of a
//! migration may not claim the port before the guest runs there. So the agent
//! vouches for it, once the gate stands.
//!
//! ovn-controller leaves alone what others say of a port that it has not
//! claimed. Once it claims the port it takes `ovn-installed` away and sets it
//! again with `ovn-installed-ts` as soon as its own flows stand
//! (`controller/if-status.c` and `local_binding_set_up` in
//! `controller/binding.c`, OVN 22.09 to 26.03): by the time stamp the two can be
//! told apart. It does not take the stamp away, hence we do as we vouch.

use crate::facts::Installed;

/// What has to be written to the row of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vouch {
    /// `ovn-installed=true` and `limosa-vouched=BY`, without `ovn-installed-ts`.
    Give { interface: String, by: String },
    /// No `limosa-vouched`; no `ovn-installed` either if `installed`.
    TakeBack { interface: String, installed: bool },
}

impl Vouch {
    /// The interface is ready, whoever has said so.
    pub(crate) fn give(interface: &str, found: Option<&Installed>, by: &str) -> Option<Self> {
        let said = found.is_some_and(|found| {
            found.installed && (found.by_ovn || found.vouched_by.as_deref() == Some(by))
        });
        (!said).then(|| Self::Give { interface: interface.to_owned(), by: by.to_owned() })
    }

    /// What this migration has said is no longer so; or, if it is `true_now`,
    /// no longer its business.
    pub(crate) fn take_back(
        interface: &str,
        found: Option<&Installed>,
        by: &str,
        true_now: bool,
    ) -> Option<Self> {
        let found = found.filter(|found| found.vouched_by.as_deref() == Some(by))?;
        let installed = found.installed && !found.by_ovn && !true_now;
        Some(Self::TakeBack { interface: interface.to_owned(), installed })
    }
}
