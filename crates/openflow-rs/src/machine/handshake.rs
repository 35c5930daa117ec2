//! From HELLO to the barrier after which requests are answered.
//!
//! ```text
//! HELLO                                                    ->
//!                                                          <-  HELLO
//! packet-in format, controller id, FEATURES?, GET_CONFIG?  ->
//!                                                          <-  FEATURES, CONFIG
//! SET_CONFIG, SET_ASYNC, BARRIER?                          ->
//!                                                          <-  BARRIER
//! ```

use ofpacket::{AsyncConfig, Body, Experimenter, Hello, OfError, SwitchConfig};

use super::{
    CONTROLLER_ID_XID, FEATURES_XID, FORMAT_XID, GET_CONFIG_XID, Machine, Output, Phase, SET_ASYNC_XID,
    SET_CONFIG_XID, SETUP_BARRIER_XID,
};
use crate::{CloseReason, Error};

/// The reasons for packet-ins that actions cause: `OFPR_APPLY_ACTION`, `_ACTION_SET`, `_GROUP`, `_PACKET_OUT`.
const PACKET_IN_REASONS: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5;
/// Added, removed, changed.
const PORT_REASONS: u32 = 0b111;
/// All six reasons.
const FLOW_REMOVED_REASONS: u32 = 0b11_1111;
/// Ours is a connection of the kind that `ovs-ofctl` makes: without a length other than 0 it would get no
/// asynchronous messages. There are no table misses that would use it.
const MISS_SEND_LEN: u16 = 128;

impl Machine {
    pub(super) fn fail(&mut self, error: Error) {
        self.out.push_back(Output::Failed(error));
        self.close(CloseReason::Handshake);
    }

    pub(super) fn set_up(&mut self, hello: &Hello) {
        if !hello.speaks(ofpacket::VERSION) {
            let offer = describe_versions(hello);
            return self.fail(Error::Version { offer });
        }
        self.phase = Phase::Setup;
        let format = Experimenter::SetPacketInFormat(Experimenter::PACKET_IN_FORMAT_NXT2);
        self.send(FORMAT_XID, Body::Experimenter(format));
        let id = Experimenter::SetControllerId(self.config.controller_id);
        self.send(CONTROLLER_ID_XID, Body::Experimenter(id));
        self.send(FEATURES_XID, Body::FeaturesRequest);
        self.send(GET_CONFIG_XID, Body::GetConfigRequest);
    }

    /// The flags are the whole bridge's, so they are sent back as they came.
    pub(super) fn configure(&mut self, config: SwitchConfig) {
        let config = SwitchConfig { flags: config.flags, miss_send_len: MISS_SEND_LEN };
        self.send(SET_CONFIG_XID, Body::SetConfig(config));
        let flow_removed = if self.config.flow_removed { FLOW_REMOVED_REASONS } else { 0 };
        let wanted = AsyncConfig(vec![
            (AsyncConfig::PACKET_IN, PACKET_IN_REASONS),
            (AsyncConfig::PORT_STATUS, PORT_REASONS),
            (AsyncConfig::FLOW_REMOVED, flow_removed),
            (AsyncConfig::ROLE_STATUS, 0),
            (AsyncConfig::TABLE_STATUS, 0),
            (AsyncConfig::REQUEST_FORWARD, 0),
        ]);
        self.send(SET_ASYNC_XID, Body::SetAsync(wanted));
        self.send(SETUP_BARRIER_XID, Body::BarrierRequest);
    }

    /// The switch has everything that was asked of it.
    pub(super) fn set_up_done(&mut self) {
        match self.features {
            Some(features) => {
                self.phase = Phase::Ready;
                self.out.push_back(Output::Ready(features));
            }
            None => self.fail(Error::Unexpected { what: "the request for its features" }),
        }
    }

    pub(super) fn handshake_refused(&mut self, xid: u32, error: OfError) {
        if error.number.is_hello_failed() {
            // The data of this error is a text.
            let offer = String::from_utf8_lossy(&error.data).trim_end_matches('\0').to_owned();
            return self.fail(Error::Version { offer });
        }
        let what = match xid {
            FORMAT_XID => "to send packet-ins in its own extensible form",
            CONTROLLER_ID_XID => "a controller id",
            FEATURES_XID => "the request for its features",
            GET_CONFIG_XID | SET_CONFIG_XID => "to be configured",
            SET_ASYNC_XID => "a choice of asynchronous messages",
            _ => "the handshake",
        };
        self.fail(Error::Refused { what, error });
    }
}

/// Names for the versions that a switch speaks.
fn describe_versions(hello: &Hello) -> String {
    const NAMES: [(u8, &str); 6] = [
        (1, "OpenFlow10"),
        (2, "OpenFlow11"),
        (3, "OpenFlow12"),
        (4, "OpenFlow13"),
        (5, "OpenFlow14"),
        (6, "OpenFlow15"),
    ];
    let spoken: Vec<_> =
        NAMES.iter().filter(|(version, _)| hello.speaks(*version)).map(|(_, name)| *name).collect();
    match spoken.is_empty() {
        true => format!("version {:#04x}", hello.version),
        false => spoken.join(", "),
    }
}
