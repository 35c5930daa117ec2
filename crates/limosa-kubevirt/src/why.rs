//! Why nothing is done about a migration, or about one of its interfaces.

/// Why nothing is done, for people; [`Why::label`] is for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    // Of an interface.
    #[error(
        "it uses masquerade: the pod's address changes, and no frame of the guest leaves the pod as it is"
    )]
    Masquerade,
    #[error("it uses passt: the guest has no port of its own in the network")]
    Passt,
    #[error("it uses SR-IOV: it is unplugged for the migration and plugged anew after it")]
    Sriov,
    #[error(
        "its binding is not known to connect the guest by a bridge: name its port in limosa.io/logical-port"
    )]
    UnknownBinding,
    #[error("it is a bridge on the pod network, and the VM has no annotation {}", crate::api::ALLOW_BRIDGE)]
    BridgeNotAllowed,
    #[error("it is being unplugged")]
    Unplugged,
    #[error(
        "nothing on the source pod {pod} says which OVN port it has: name the port in limosa.io/logical-port if there is one"
    )]
    NotOvn { pod: String },
    #[error(
        "each launcher pod has a port of its own ({port} on the source), so there is no port to hand over; this is so with OVN-Kubernetes, and with Kube-OVN's --keep-vm-ip=false"
    )]
    PortPerPod { port: String },
    #[error("migration {rival} of the same port has not ended yet")]
    PreviousMigration { rival: String },
    // Of the whole migration.
    #[error("it leaves this cluster or namespace (sendTo, receive); only migrations within one are handled")]
    Decentralized,
    #[error("KubeVirt has not accepted it yet")]
    NotAccepted,
    #[error("it has ended, or was cancelled before it began")]
    Ended,
    #[error("virtual machine instance {vmi} does not run (any more)")]
    NoGuest { vmi: String },
    #[error("the guest was on the target before anything could be prepared; OVN moves the port by itself")]
    AlreadyThere,
    #[error("the source pod is not there (yet)")]
    NoSourcePod,
    #[error(
        "no chassis of OVN's southbound database has the hostname (or the name) {node}: is ovn-controller running on that node, and Open_vSwitch external_ids:hostname the node's name?"
    )]
    UnknownNode { node: String },
    #[error(
        "several chassis of OVN's southbound database have the hostname {node}: delete the one that is no more (`ovn-sbctl chassis-del`)"
    )]
    AmbiguousNode { node: String },
    #[error("source and target are both {node}")]
    SameNode { node: String },
}

impl Why {
    /// One word, for programs; it does not change.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Masquerade => "Masquerade",
            Self::Passt => "Passt",
            Self::Sriov => "Sriov",
            Self::UnknownBinding => "UnknownBinding",
            Self::BridgeNotAllowed => "BridgeNotAllowed",
            Self::Unplugged => "Unplugged",
            Self::NotOvn { .. } => "NotOvn",
            Self::PortPerPod { .. } => "PortPerPod",
            Self::PreviousMigration { .. } => "PreviousMigration",
            Self::Decentralized => "Decentralized",
            Self::NotAccepted => "NotAccepted",
            Self::Ended => "Ended",
            Self::NoGuest { .. } => "NoGuest",
            Self::AlreadyThere => "AlreadyThere",
            Self::NoSourcePod => "NoSourcePod",
            Self::UnknownNode { .. } => "UnknownNode",
            Self::AmbiguousNode { .. } => "AmbiguousNode",
            Self::SameNode { .. } => "SameNode",
        }
    }

    /// It passes by itself within a moment, or is nothing that anybody has to
    /// be told.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(
            self,
            Self::NotAccepted | Self::Ended | Self::NoGuest { .. } | Self::NoSourcePod | Self::Unplugged
        )
    }

    /// Somebody can do something about it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::UnknownBinding | Self::AlreadyThere | Self::UnknownNode { .. } | Self::AmbiguousNode { .. }
        )
    }
}
