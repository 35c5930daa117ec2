//! The monitor of a session: from where it starts, how it is asked for, and its updates.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{MONITOR, Machine, Output, Phase, Request, describe};
use crate::condition::Clause;
use crate::error::{ConnectionError, Error, ParseError};
use crate::monitor::{Monitors, condition_json, present_columns, requests_json};
use crate::replica::{Tables, empty_tables, same_columns};
use crate::schema::Schema;
use crate::updates::{Format, apply};
use crate::wire;

/// How the server is asked to monitor: what is newest first, and the next where a server does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// From where the last connection ended, if the server still knows (OVS 2.12).
    Since,
    /// By condition (OVS 2.6).
    Conditional,
    /// Whole tables (RFC 7047 section 4.1.5).
    Plain,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Since => "monitor_cond_since",
            Self::Conditional => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    fn older(self) -> Option<Self> {
        match self {
            Self::Since => Some(Self::Conditional),
            Self::Conditional => Some(Self::Plain),
            Self::Plain => None,
        }
    }

    fn format(self) -> Format {
        if self == Self::Plain { Format::Rows } else { Format::Differences }
    }
}

impl Machine {
    /// Monitors what there is in the schema, with the conditions of now.
    pub(super) fn monitor(&mut self, schema: Schema, method: Method) {
        let (present, missing) = present_columns(&self.monitors, &schema);
        let tables = empty_tables(&present, &schema);
        let conditions = (method != Method::Plain).then_some((&self.monitors, &schema));
        let requests = requests_json(&present, conditions);
        // To go on from there, ours must be what this monitor would have made of it.
        let same = self.accepted == self.monitors && same_columns(&tables, &self.replica.tables);
        if !same || method != Method::Since {
            self.last_transaction = Uuid::nil();
        }
        self.accepted = self.monitors.clone();
        self.replica.schema = Arc::new(schema);
        self.replica.missing = Arc::new(missing);
        self.phase = Phase::Loading;
        self.method = method;
        let mut params = vec![json!(self.database), json!(MONITOR), requests];
        if method == Method::Since {
            params.push(json!(self.last_transaction.to_string()));
        }
        self.send(method.name(), Value::Array(params), Request::Monitor { tables });
    }

    pub(super) fn monitor_answered(
        &mut self,
        tables: Tables,
        result: Result<Option<&RawValue>, Value>,
    ) -> Result<(), ConnectionError> {
        match result {
            Ok(result) => self.loaded(tables, result),
            Err(error) => match self.method.older() {
                Some(older) if is_unknown_method(&error) => {
                    self.monitor((*self.replica.schema).clone(), older);
                    Ok(())
                }
                _ => Err(ConnectionError::Refused { method: self.method.name(), error: describe(&error) }),
            },
        }
    }

    /// The first contents replace the old tables at once; what happened since the last transaction we know of
    /// is applied to them (ovsdb-server(7) section 4.1.15).
    fn loaded(&mut self, mut tables: Tables, result: Option<&RawValue>) -> Result<(), ConnectionError> {
        let (found, last, updates) = match self.method {
            Method::Since => wire::read::<(bool, Uuid, &RawValue)>(result)?,
            _ => (false, Uuid::nil(), wire::read::<&RawValue>(result)?),
        };
        if found && self.last_transaction.is_nil() {
            return Err(ConnectionError::Protocol("changes since a transaction not asked for".to_owned()));
        }
        if !found {
            apply(&mut tables, self.method.format(), updates, self.max_replica)?;
            self.replica.tables = tables;
        } else {
            self.apply(updates)?;
        }
        self.last_transaction = last;
        self.replica.connected = true;
        self.resumed = found;
        self.dirty = true;
        self.phase = Phase::Steady;
        Ok(())
    }

    /// `update`, `update2` or `update3`, whichever goes with the method.
    pub(super) fn update(&mut self, params: Option<&RawValue>) -> Result<(), ConnectionError> {
        let (monitor, last, updates) = match self.method {
            Method::Since => wire::read::<(Value, Uuid, &RawValue)>(params)?,
            _ => {
                let (monitor, updates) = wire::read::<(Value, &RawValue)>(params)?;
                (monitor, Uuid::nil(), updates)
            }
        };
        if monitor != MONITOR {
            return Err(ParseError::new("an update of our monitor", &monitor).into());
        }
        if !self.is_steady() {
            return Err(ConnectionError::Protocol("an update before the first contents".to_owned()));
        }
        self.apply(updates)?;
        self.last_transaction = last;
        self.dirty = true;
        Ok(())
    }

    /// Half of an update is worse than none: the tables are again as they were last seen, and from there is no
    /// going on.
    fn apply(&mut self, updates: &RawValue) -> Result<(), ConnectionError> {
        let format = self.method.format();
        apply(&mut self.replica.tables, format, updates, self.max_replica).inspect_err(|_| {
            self.replica.tables = self.put_out.clone();
            self.last_transaction = Uuid::nil();
        })
    }

    /// Changes the condition of a table, now and on later connections.
    pub(crate) fn set_condition(
        &mut self,
        table: String,
        condition: Vec<Clause>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) {
        let Some(monitor) = self.monitors.get_mut(&table) else {
            return self.outputs.push(Output::ConditionSet(reply, Err(Error::NotMonitored(table))));
        };
        monitor.set_condition(condition.clone());
        // Before the monitor is sent the condition becomes part of it; a table that the schema lacks has no rows
        // whatever the condition.
        let sent = matches!(self.phase, Phase::Loading | Phase::Steady) && self.method != Method::Plain;
        if !sent || !self.replica.schema.tables.contains_key(&table) {
            return self.outputs.push(Output::ConditionSet(reply, Ok(())));
        }
        let change = json!({ &table: [{ "where": condition_json(monitor, &self.replica.schema) }] });
        let request = Request::Condition { table, condition, reply };
        self.send("monitor_cond_change", json!([MONITOR, MONITOR, change]), request);
    }

    pub(super) fn condition_answered(
        &mut self,
        table: String,
        condition: Vec<Clause>,
        result: Result<Option<&RawValue>, Value>,
    ) -> Result<(), Error> {
        let accepted = self.accepted.get_mut(&table).zip(self.monitors.get_mut(&table));
        let Some((accepted, wanted)) = accepted else { return Err(Error::NotMonitored(table)) };
        match result {
            Ok(_) => {
                accepted.set_condition(condition);
                Ok(())
            }
            Err(error) => {
                // Unless another is wanted by now.
                if wanted.wanted() == condition {
                    wanted.set_condition(accepted.wanted().to_vec());
                }
                Err(Error::ConditionRefused { table, error: describe(&error) })
            }
        }
    }

    /// Whether every row of a table is replicated although not every row is wanted.
    pub(crate) fn ignores_conditions(&self) -> bool {
        let conditional = |monitors: &Monitors| monitors.values().any(|monitor| !monitor.wanted().is_empty());
        self.method == Method::Plain && conditional(&self.monitors)
    }
}

/// How a server says that it is too old, or a proxy that it does not pass a method on.
fn is_unknown_method(error: &Value) -> bool {
    let text = describe(error).to_ascii_lowercase();
    ["unknown method", "method not found", "not supported"].iter().any(|known| text.contains(known))
}
