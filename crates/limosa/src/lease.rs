//! Which of several controllers works: the one that holds a
//! `coordination.k8s.io/v1` Lease.
//!
//! Times and fields are those of client-go's leader election, so that what people
//! know of it holds here. Two things are stricter. Whether this process may write
//! is asked of a clock that goes on while the machine or the process is stopped:
//! one that wakes up after its time writes nothing more. And the number of
//! transitions is a [term](Fence::term) that every later holder exceeds, for
//! databases to refuse an earlier one by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;

/// How a lease is held and taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// For how long a lease is valid after its last renewal; others wait so long.
    pub(crate) duration: Duration,
    /// A leader that could not renew it for so long gives up.
    pub(crate) renew_deadline: Duration,
    /// How often it is renewed, and how often others look.
    pub(crate) retry: Duration,
}

/// A candidate.
#[derive(Debug)]
pub(crate) struct Elector {
    leases: Api<Lease>,
    name: String,
    holder: String,
    timing: Timing,
    /// The state of the lease that was seen last, and since when it has been that one.
    seen: Option<(Option<String>, Duration)>,
    /// Every term from now on is greater.
    exceeds: i32,
    said: Option<String>,
}

/// The lease is ours, and renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Leadership {
    fence: Fence,
    leases: Api<Lease>,
    name: String,
    renewer: JoinHandle<()>,
}

/// Whether the lease is still ours, as far as this process can know.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    holder: String,
    term: u64,
    /// In milliseconds of [`now`]: the lease is ours until then.
    until: Arc<AtomicU64>,
}

impl Fence {
    /// Who leads: us.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Greater than that of every leader before.
    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    /// False once the last renewal is older than the lease is valid: others may
    /// lead by now.
    pub(crate) fn may_write(&self) -> bool {
        millis(now()) < self.until.load(Ordering::Acquire)
    }

    /// One that nobody renews.
    #[cfg(test)]
    pub(crate) fn lasting(time: Duration) -> Self {
        let fence = Self { holder: "test".to_owned(), term: 1, until: Arc::default() };
        fence.extend(now(), time);
        fence
    }

    fn extend(&self, from: Duration, by: Duration) {
        self.until.store(millis(from + by), Ordering::Release);
    }

    fn end(&self) {
        self.until.store(0, Ordering::Release);
    }
}

impl Elector {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, holder: String, timing: Timing) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), holder, timing, seen: None, exceeds: -1, said: None }
    }

    /// Has the lease, once it is taken again, exceed a term that was given by no lease, or by one that is no
    /// more.
    pub(crate) fn exceed(&mut self, term: u64) {
        self.exceeds = self.exceeds.max(i32::try_from(term).unwrap_or(i32::MAX));
    }

    /// Waits until the lease is ours.
    pub(crate) async fn lead(&mut self) -> Leadership {
        loop {
            let sent = now();
            match limited(self.timing.renew_deadline, self.try_to_lead(sent)).await {
                Ok(Some(lease)) => {
                    let leadership = self.begin(lease, sent);
                    let Fence { holder, term, .. } = &leadership.fence;
                    tracing::info!(lease = self.name, holder, term, "this controller leads");
                    self.said = None;
                    return leadership;
                }
                Ok(None) => {}
                Err(error) => self.say(format!("the lease cannot be taken: {error}")),
            }
            // Candidates do not all look at the same moment.
            tokio::time::sleep(self.timing.retry.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
        }
    }

    fn begin(&self, lease: Lease, sent: Duration) -> Leadership {
        let term = spec(&lease).lease_transitions.map_or(0, i64::from);
        let fence = Fence {
            holder: self.holder.clone(),
            term: u64::try_from(term).unwrap_or_default(),
            until: Arc::default(),
        };
        fence.extend(sent, self.timing.duration);
        let (leases, name) = (self.leases.clone(), self.name.clone());
        let renewer = tokio::spawn(renew(leases.clone(), lease, fence.clone(), self.timing));
        Leadership { fence, leases, name, renewer }
    }

    /// One look at the lease; it is ours if one is returned.
    async fn try_to_lead(&mut self, now: Duration) -> kube::Result<Option<Lease>> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let lease = self.taken(None);
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let held = spec(&lease);
        let valid = valid(&held);
        let holder = held.holder_identity.clone().unwrap_or_default();
        // Whose clock says what does not matter: a lease runs out when it has not
        // changed for as long as it is valid.
        if !holder.is_empty() && holder != self.holder && now < since + valid {
            self.say(format!("{holder} leads; this controller stands by"));
            return Ok(None);
        }
        let lease = self.taken(Some(lease));
        won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Takes the lease from whoever holds it. Returns when that one writes no more, with none if there is no lease:
    /// nobody is there to lead.
    pub(crate) async fn seize(&self) -> Result<Option<Leadership>, String> {
        let seized = async {
            loop {
                let sent = now();
                let Some(lease) = self.leases.get_opt(&self.name).await? else { return Ok(None) };
                let valid = valid(&spec(&lease));
                let lease = self.taken(Some(lease));
                if let Some(lease) =
                    won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)?
                {
                    return Ok(Some((self.begin(lease, sent), valid)));
                }
            }
        };
        let Some((leadership, valid)) = limited(self.timing.renew_deadline, seized).await? else {
            return Ok(None);
        };
        tokio::time::sleep(valid).await;
        Ok(Some(leadership))
    }

    /// The lease with us as its holder.
    fn taken(&self, old: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = old.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec { lease_transitions: Some(first_term()), ..LeaseSpec::default() }),
        });
        let spec = lease.spec.get_or_insert_default();
        let term = spec.lease_transitions.unwrap_or(0);
        if spec.holder_identity.as_ref() != Some(&self.holder) || term <= self.exceeds {
            spec.lease_transitions = Some(term.max(self.exceeds).saturating_add(1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.holder.clone());
        // Whole seconds is all that the API has; more only makes others wait longer.
        let seconds = self.timing.duration.as_secs_f64().ceil().max(1.0);
        spec.lease_duration_seconds = Some(seconds as i32);
        spec.renew_time = Some(now);
        lease
    }

    fn say(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::info!(lease = self.name, "{what}");
            self.said = Some(what);
        }
    }
}

impl Leadership {
    /// What every write has to ask.
    pub(crate) fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Returns when the lease has been lost.
    pub(crate) async fn lost(&mut self) {
        // It only ends for that.
        let _ = (&mut self.renewer).await;
    }

    /// Hands the lease back, so that another need not wait until it runs out.
    pub(crate) async fn release(self) {
        self.renewer.abort();
        if !self.fence.may_write() {
            return;
        }
        self.fence.end();
        let give_back = async {
            let mut lease = self.leases.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() == Some(&self.fence.holder) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok(())
        };
        if let Err(error) = limited(Duration::from_secs(2), give_back).await {
            tracing::warn!(lease = self.name, error, "the lease could not be handed back; it will run out");
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.renewer.abort();
        self.fence.end();
    }
}

/// Renews the lease until it is lost.
async fn renew(leases: Api<Lease>, mut lease: Lease, fence: Fence, timing: Timing) {
    let mut renewed = now();
    let why = loop {
        tokio::time::sleep(timing.retry).await;
        let sent = now();
        let left = timing.renew_deadline.saturating_sub(sent.saturating_sub(renewed));
        if left.is_zero() {
            break "it could not be renewed in time".to_owned();
        }
        match limited(left, renew_once(&leases, &lease, &fence.holder)).await {
            Ok(Some(new)) => {
                renewed = sent;
                fence.extend(sent, timing.duration);
                lease = new;
            }
            Ok(None) => break "another controller holds it".to_owned(),
            Err(error) => tracing::warn!(error, "the lease could not be renewed; will try again"),
        }
    };
    fence.end();
    tracing::warn!(
        holder = fence.holder,
        term = fence.term,
        "the lease is lost, nothing more is written: {why}"
    );
}

/// `None` if it is somebody else's.
async fn renew_once(leases: &Api<Lease>, lease: &Lease, holder: &str) -> kube::Result<Option<Lease>> {
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    let mut lease = lease.clone();
    // Once as it was; and should somebody have touched it, once as it is.
    for _ in 0..2 {
        if spec(&lease).holder_identity.as_deref() != Some(holder) {
            return Ok(None);
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        if let Some(renewed) = won(leases.replace(name, &PostParams::default(), &lease).await)? {
            return Ok(Some(renewed));
        }
        match leases.get_opt(name).await? {
            Some(found) => lease = found,
            None => return Ok(None),
        }
    }
    won(leases.replace(name, &PostParams::default(), &lease).await)
}

/// A conflict means that another was faster.
fn won(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn limited<T>(time: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(time, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the Kubernetes API does not answer".to_owned()),
    }
}

/// How long a lease is valid after its last renewal.
fn valid(spec: &LeaseSpec) -> Duration {
    Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into())
}

fn spec(lease: &Lease) -> LeaseSpec {
    lease.spec.clone().unwrap_or_default()
}

/// Where the terms of a new lease begin: at the minutes since 1970. Were it 0, a
/// lease that was deleted and made anew would give terms that have been before.
fn first_term() -> i32 {
    i32::try_from(Timestamp::now().as_second() / 60).unwrap_or(i32::MAX)
}

/// Time since the machine has started, suspended or not.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use limosa_lab::kube::ApiServer;

    use super::*;
    use crate::store::{Which, testing};

    #[test]
    fn a_term_ends_by_itself() {
        let fence = Fence::lasting(Duration::from_secs(60));
        assert!(fence.may_write());
        // A process that was stopped, or a machine that slept, finds this.
        fence.extend(now().saturating_sub(Duration::from_secs(61)), Duration::from_secs(60));
        assert!(!fence.may_write());
    }

    #[test]
    fn terms_of_a_new_lease_begin_above_those_of_an_old_one() {
        assert!(first_term() > 29_000_000);
    }

    const SHORT: Timing = Timing {
        duration: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry: Duration::from_millis(250),
    };

    async fn candidate(server: &ApiServer, name: &str) -> Elector {
        let store = testing::store(server, testing::CONTROLLER, "limosa", Which::Live).await;
        Elector::new(store.client(), "limosa", "a-lease", name.to_owned(), SHORT)
    }

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("nothing happens")
    }

    #[tokio::test]
    async fn one_leads_and_the_next_takes_over() {
        let server = ApiServer::launch().await.unwrap();
        testing::prepare(&server).await;
        let mut a = candidate(&server, "a").await;
        let mut b = candidate(&server, "b").await;
        let first = soon(a.lead()).await;
        assert!(first.fence().may_write());
        assert!(tokio::time::timeout(SHORT.duration * 2, b.lead()).await.is_err(), "both lead");
        assert!(first.fence().may_write(), "it was renewed");

        // Cut off: what it holds ends before another has it.
        let old = first.fence();
        first.renewer.abort();
        let mut second = soon(b.lead()).await;
        assert!(!old.may_write());
        assert!(second.fence().may_write() && second.fence().term() > old.term());
        // It comes back and stands by.
        assert!(tokio::time::timeout(SHORT.duration, a.lead()).await.is_err(), "both lead");

        // Handed back: the next need not wait for long, and knows its term.
        let fence = second.fence();
        second.release().await;
        assert!(!fence.may_write());
        // So does one that has to exceed what no lease has given.
        a.exceed(fence.term() + 1000);
        let mut third = soon(a.lead()).await;
        assert_eq!(third.fence().term(), fence.term() + 1001);

        // A server that does not answer costs the leader its place, in time.
        server.pause().await.unwrap();
        soon(third.lost()).await;
        assert!(!third.fence().may_write());
        server.resume().await.unwrap();
        second = soon(b.lead()).await;
        assert!(second.fence().term() > third.fence().term());

        // Taken away: whoever had it has lost it by then.
        let taken = soon(a.seize()).await.unwrap().unwrap();
        assert!(!second.fence().may_write() && taken.fence().may_write());
        assert!(taken.fence().term() > second.fence().term());
        let nobody = candidate(&server, "c").await;
        let nobody = Elector { name: "no-lease".to_owned(), ..nobody };
        assert!(soon(nobody.seize()).await.unwrap().is_none());
    }
}
