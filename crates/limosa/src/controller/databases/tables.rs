//! What the controller reads of OVN's databases (ovn-nb(5), ovn-sb(5)).

use std::collections::BTreeMap;

use ovsdb_rs::Uuid;

ovsdb_rs::table! {
    pub(super) struct SwitchPort in "Logical_Switch_Port" {
        pub(super) name: String,
        pub(super) r#type: String,
        pub(super) addresses: Vec<String>,
        pub(super) dynamic_addresses: Option<String>,
        pub(super) port_security: Vec<String>,
        pub(super) options: BTreeMap<String, String>,
        pub(super) external_ids: BTreeMap<String, String>,
    }

    pub(super) struct NbGlobal in "NB_Global" {
        pub(super) hv_cfg: i64,
    }

    pub(super) struct PortBinding in "Port_Binding" {
        pub(super) logical_port: String,
        pub(super) chassis: Option<Uuid>,
        /// OVN 22.06 and later.
        pub(super) additional_chassis: Vec<Uuid>,
        pub(super) datapath: Uuid,
        pub(super) tunnel_key: i64,
    }

    pub(super) struct DatapathBinding in "Datapath_Binding" {
        pub(super) tunnel_key: i64,
    }

    pub(super) struct Chassis in "Chassis" {
        pub(super) name: String,
        pub(super) hostname: String,
        pub(super) encaps: Vec<Uuid>,
    }

    pub(super) struct ChassisPrivate in "Chassis_Private" {
        pub(super) name: String,
        pub(super) nb_cfg: i64,
    }

    pub(super) struct Encap in "Encap" {
        pub(super) r#type: String,
    }
}
