//! Matches, actions and flows in the syntax of `ovs-ofctl add-flow` (`ovs-ofctl(8)`, `ovs-fields(7)`,
//! `ovs-actions(7)`): what this crate's `Display` writes is read back, and what `ovs-ofctl -O OpenFlow15` reads
//! becomes the bytes that it would send.
//!
//! ```
//! use ofpacket::{Action, Flow, Instruction, Match, text};
//!
//! let flow: Flow = "table=65, priority=100, tcp, nw_dst=10.0.0.0/8, tp_dst=80, reg15=0x2 \
//!                   actions=mod_tp_dst:8080,load:5->NXM_NX_REG10[0..15],ct(commit,zone=NXM_NX_REG13[0..15]),\
//!                   resubmit(,66),goto_table:70".parse()?;
//! assert_eq!((flow.table_id, flow.priority, flow.actions().len()), (65, 100, 4));
//! assert_eq!(flow.instructions.last(), Some(&Instruction::GotoTable(70)));
//! // `mod_tp_dst` and `load` are `set_field` in OpenFlow 1.5.
//! assert_eq!(flow.actions()[1].to_string(), "set_field:0x5/0xffff->reg10");
//! // Text in the order in which `ovs-ofctl dump-flows` has it.
//! assert_eq!(flow.match_.to_string(), "tcp,reg15=0x2,nw_dst=10.0.0.0/8,tp_dst=80");
//!
//! let match_: Match = "ct_state=+new-est+trk,ip,reg0[0..7]=5".parse()?;
//! assert_eq!(match_, match_.to_string().parse()?);
//! let action: Action = "resubmit(,8)".parse()?;
//! assert_eq!(text::actions("move:NXM_NX_REG0[]->NXM_NX_REG1[],drop_me").unwrap_err().offset, 34);
//!
//! let file = "# the first table\ntable=0,in_port=LOCAL,actions=NORMAL\n\ntable=1,actions=drop # nothing else\n";
//! assert_eq!(text::flows(file)?.len(), 2);
//! # Ok::<(), ofpacket::ParseError>(())
//! ```
//!
//! # What is accepted
//!
//! Items stand one after the other with commas or blanks between them, each `key`, `key=value`, `key:value` or
//! `key(value)`. Numbers are decimal, hexadecimal (`0x1f`) or octal (`017`); ports are decimal, or the name of a
//! reserved port (`LOCAL`, `IN_PORT`, `NORMAL`, `CONTROLLER`, ..., in any case). Names of interfaces are unknown
//! here. Of two values for the same field the later one counts.
//!
//! **Flows**: `table`, `priority`, `cookie`, `idle_timeout`, `hard_timeout`, `importance`, `send_flow_rem`,
//! `check_overlap`, `reset_counts`, `no_packet_counts`, `no_byte_counts`, a match, and `actions=` at the end. What
//! a dump has besides (`duration`, `n_packets`, `n_bytes`, `idle_age`, `hard_age`) is skipped. In a file: one flow a
//! line, empty lines, comments from `#` on, an optional `add` in front.
//!
//! **Matches**:
//! - `FIELD=VALUE`, `FIELD=VALUE/MASK`, `FIELD` alone (for tunnel options: the packet has it), with any name of
//!   the field: `eth_src`, `dl_src`, `OXM_OF_ETH_SRC`; [`OxmField::known`](crate::OxmField::known) are all of them;
//! - `FIELD[FIRST..LAST]=NUMBER` for some of the bits;
//! - `eth`, `ip` (`ipv4`, `ip4`), `ipv6` (`ip6`), `arp`, `rarp`, `icmp`, `icmp6`, `tcp`, `tcp6`, `udp`, `udp6`,
//!   `sctp`, `sctp6`, `mpls`, `mplsm`;
//! - `nw_src`, `nw_proto`, `tp_src`, `icmp_type` and their like stand for the field that the protocol has;
//! - addresses with prefix lengths or masks; `ct_state`, `tcp_flags` and `tun_flags` as `+new-est`, `new|trk` or
//!   `0x1/0x3`; `nw_frag=no|yes|first|later|not_later`; `packet_type=(1,0x800)`; `dl_vlan`, `dl_vlan_pcp`,
//!   `vlan_tci`; `*` for any value.
//!
//! A field that needs a protocol the flow does not match is an error, where `ovs-ofctl` logs a message and
//! leaves the field out. An Ethernet packet is asked for where `ovs-ofctl` does so.
//!
//! **Actions**: `PORT`, `output:PORT`, `output:BITS`, `output(port=P,max_len=N)`, `controller(...)`, `group`,
//! `enqueue:PORT:QUEUE`, `set_queue`, `pop_queue`, `bundle(...)`, `bundle_load(...)`, `multipath(...)`, `set_field`,
//! `load`, `move`, `push`, `pop`, `mod_vlan_vid`, `mod_vlan_pcp`, `set_vlan_vid`, `set_vlan_pcp`, `push_vlan`,
//! `pop_vlan` (`strip_vlan`), `mod_dl_src`, `mod_dl_dst`, `mod_nw_src`, `mod_nw_dst`, `mod_nw_tos`, `mod_nw_ecn`,
//! `mod_nw_ttl`, `mod_tp_src`, `mod_tp_dst`, `dec_ttl`, `push_mpls`, `pop_mpls`, `set_mpls_label`, `set_mpls_tc`,
//! `set_mpls_ttl`, `dec_mpls_ttl`, `dec_nsh_ttl`, `push_pbb`, `pop_pbb`, `copy_ttl_in`, `copy_ttl_out`,
//! `encap(...)`, `decap(...)`, `delete_field`, `set_tunnel`, `set_tunnel64`, `resubmit`, `learn(...)`,
//! `conjunction(ID,K/N)`, `fin_timeout(...)`, `check_pkt_larger(N)->BIT`, `ct(...)` with `nat(...)` and `exec(...)`,
//! `ct_clear`, `clone(...)`, `sample(...)`, `meter`, `note`, `exit`, `drop`.
//!
//! **Instructions** among actions, in the order `clear_actions`, `write_actions(...)`, `write_metadata:V/M`,
//! `goto_table:N`; what stands before them is applied.
//!
//! What this crate does not know it writes as `unknown:` and bytes, which nobody reads.
//!
//! Whether a switch accepts an action is for the switch to say: `set_field` on `ip_src` in a flow that does not
//! match `ip` is read here, and refused there.

mod action;
mod error;
mod flow;
mod learn;
mod match_;
mod nested;
mod subfield;
mod token;
mod value;

use std::str::FromStr;

pub use error::ParseError;

use crate::{Action, Flow, Instruction, Match, PortNo};
use error::{Fail, Parse};

/// Actions, one after the other; `drop` or nothing for none.
///
/// # Errors
/// At the first place that is no action of the list above, or an instruction.
pub fn actions(text: &str) -> Result<Vec<Action>, ParseError> {
    finish(text, action::actions(text, &mut action::Context::default(), 0))
}

/// What a flow has after `actions=`: actions to apply, and other instructions.
///
/// # Errors
/// At the first place that is neither action nor instruction.
pub fn instructions(text: &str) -> Result<Vec<Instruction>, ParseError> {
    finish(text, action::instructions(text, &mut action::Context::default()))
}

/// The flows of a file for `ovs-ofctl add-flows`.
///
/// # Errors
/// At the first place that cannot be read, with its line.
pub fn flows(text: &str) -> Result<Vec<Flow>, ParseError> {
    finish(text, flow::flows(text))
}

fn finish<'a, T>(text: &'a str, parsed: Parse<'a, T>) -> Result<T, ParseError> {
    parsed.map_err(|fail: Fail<'_>| fail.within(text))
}

impl FromStr for Match {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        finish(text, match_::match_(text))
    }
}

/// One action; some texts stand for several, see [`actions`].
impl FromStr for Action {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let one: Result<[Self; 1], _> = actions(text)?.try_into();
        one.map(|[action]| action).map_err(|_| Fail::new(text, "one action").within(text))
    }
}

impl FromStr for Flow {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        finish(text, flow::flow(text))
    }
}

/// A number, or the name of a reserved port.
impl FromStr for PortNo {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        finish(text, token::port(text))
    }
}
