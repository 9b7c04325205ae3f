//! What an operator has the service do for its own stores: `POST /v1/admin/rebuild`,
//! `/v1/admin/bucket/lifecycle`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one call of a rebuild looked at: Redis made again from the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Rebuilt {
    /// Tenants whose last job was looked at.
    pub tenants: u64,
    /// Jobs that were looked at.
    pub jobs: u64,
    /// Of them: Redis knew them as they are.
    pub known: u64,
    /// Of them: Redis did not know them, and does now.
    pub restored: u64,
    /// Of them: Redis knew less than the bucket, and knows it now.
    pub corrected: u64,
    /// Of them: they ended so long ago that Redis need not know them; asked for by their ids they are found all the
    /// same.
    pub expired: u64,
    /// Of those that were known, restored or corrected: their runs have not ended.
    pub open: u64,
    /// Jobs of which something in the bucket cannot be read.
    pub unreadable: Vec<String>,
    /// Where the next call goes on; null when all is done.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

impl Rebuilt {
    /// Both together; the cursor is the later one's.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.unreadable.extend(later.unreadable);
        Self {
            tenants: self.tenants + later.tenants,
            jobs: self.jobs + later.jobs,
            known: self.known + later.known,
            restored: self.restored + later.restored,
            corrected: self.corrected + later.corrected,
            expired: self.expired + later.expired,
            open: self.open + later.open,
            unreadable: self.unreadable,
            next_cursor: later.next_cursor,
        }
    }
}

/// The bucket's lifecycle rules as they are, and as the deployment wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketLifecycle {
    /// How the two go together.
    pub state: LifecycleState,
    /// What the deployment wants.
    pub wanted: Vec<BucketRule>,
    /// Rules in force, the wanted ones among them; empty when the bucket does not tell.
    pub found: Vec<BucketRule>,
    /// Why the bucket does not tell, or did not take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How the bucket's rules stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Everything that is wanted is covered.
    InForce,
    /// Something is not.
    Missing,
    /// The bucket does not tell, or does not take rules, or not from us.
    NotKnown,
}

impl LifecycleState {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Missing => "missing",
            Self::NotKnown => "not_known",
        }
    }
}

/// One lifecycle rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketRule {
    /// Its name; may be empty.
    #[schema(example = "photofinish-rescue")]
    pub id: String,
    /// Keys that begin so; empty: all.
    #[schema(example = "_rescue/")]
    pub prefix: String,
    /// Days after which an upload in parts that is not finished is aborted.
    #[schema(required = true)]
    pub abort_days: Option<u32>,
    /// Days after which an object is deleted.
    #[schema(required = true)]
    pub expire_days: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_two_calls_goes_on_where_the_later_one_says() {
        let one = |jobs, name: &str, cursor: Option<&str>| Rebuilt {
            jobs,
            unreadable: vec![name.to_owned()],
            next_cursor: cursor.map(str::to_owned),
            ..Rebuilt::default()
        };
        let sum = one(3, "a", Some("x")).and(one(4, "b", None));
        assert_eq!((sum.jobs, sum.next_cursor), (7, None));
        assert_eq!(sum.unreadable, ["a", "b"]);
    }
}
