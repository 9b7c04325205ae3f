//! The log of operators' acts.
//!
//! Guarantee: an entry lies in the bucket before its act is done, so none goes unrecorded; an act that then failed is
//! there, too. No secret stands in it.

use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Error;
use photofinish_objects::AuditEntry;
use serde_json::Value;

impl Ingest {
    /// Records an act that is about to be done.
    pub(crate) async fn audit(
        &self,
        by: &AsOperator,
        act: &str,
        target: &str,
        detail: Value,
    ) -> Result<(), Error> {
        let entry = AuditEntry {
            at: self.now(),
            operator: by.operator.clone(),
            act: act.to_owned(),
            target: target.to_owned(),
            detail,
            request_id: by.request_id.clone(),
        };
        self.objects.audit_put(&entry, rand::random()).await?;
        tracing::info!(operator = by.operator, act, target, "an operator's act");
        Ok(())
    }
}
