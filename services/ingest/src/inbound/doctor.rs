//! `GET /v1/admin/doctor`: what is amiss with what the deployment stands on, and what to do.
//!
//! A check is a function of its own that answers with [`Check`]s and never fails; a further
//! dependency is one more of them in [`diagnose`].

mod servers;

use super::Routes;
use crate::auth::AsOperator;
use crate::core::Ingest;
use axum::Json;
use axum::extract::State;
use photofinish_contract::doctor::{Check, Diagnosis, State as Stands};
use photofinish_objects::{DefaultEncryption, Encryption, Lifecycle, ObjectsError};
use photofinish_runtime::error_chain;
use std::sync::Arc;
use utoipa_axum::routes;

/// Advice for a bucket without a rule for uploads.
const ABORT_ADVICE: &str = "`photofinish bucket lifecycle --apply`, or give the bucket by hand a rule \
     AbortIncompleteMultipartUpload after 1 day over";
/// The same for what workers push.
const EXPIRE_ADVICE: &str = "`photofinish bucket lifecycle --apply`, or give the bucket by hand a rule Expiration after 2 days over";
/// The same for clients' inputs.
const INPUTS_ADVICE: &str = "`photofinish bucket lifecycle --apply`, or give the bucket by hand a rule Expiration \
     after 1 day (as urls.input_ttl_s) over";

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(doctor))
}

/// What is amiss with what the deployment stands on, and what to do.
#[utoipa::path(get, path = "/v1/admin/doctor", tag = "admin",
    responses((status = 200, body = Diagnosis, description = "Everything that was looked at")))]
async fn doctor(State(ingest): State<Arc<Ingest>>, _operator: AsOperator) -> Json<Diagnosis> {
    Json(diagnose(&ingest).await)
}

async fn diagnose(ingest: &Ingest) -> Diagnosis {
    let mut checks = vec![bucket(ingest).await];
    // Of a bucket that does not answer nothing more can be learnt.
    if checks.iter().all(|check| check.state == Stands::Ok) {
        checks.push(presigned_urls(ingest).await);
        checks.extend(encryption(ingest).await);
        checks.extend(lifecycle(ingest).await);
    }
    checks.extend(servers::broker(ingest).await);
    checks.extend(servers::redis(ingest).await);
    checks.extend(servers::runpod(ingest).await);
    Diagnosis { checks }
}

async fn bucket(ingest: &Ingest) -> Check {
    const NAME: &str = "bucket";
    match ingest.objects.check().await {
        Ok(()) => Check::ok(NAME, "answers, and honours put-if-absent"),
        Err(error @ ObjectsError::NoPutIfAbsent) => Check::not(
            NAME,
            Stands::Wrong,
            error.to_string(),
            "Use a bucket that knows If-None-Match: without it a run can end twice.",
        ),
        Err(error) => Check::not(
            NAME,
            Stands::Wrong,
            error_chain(&error),
            "Check s3.endpoint, s3.bucket, s3.region and the access key, from where ingest runs.",
        ),
    }
}

/// The longest that ingest signs for: outputs and uploaded inputs.
async fn presigned_urls(ingest: &Ingest) -> Check {
    const NAME: &str = "presigned_urls";
    let ttl = ingest.config.output_ttl.max(ingest.config.input_ttl);
    let hours = ttl.as_secs_f64() / 3600.0;
    match ingest.objects.try_presigned(ttl, ingest.now()).await {
        Ok(()) if ingest.config.s3.access_key_id.is_empty() => Check::not(
            NAME,
            Stands::Warning,
            format!("one for {hours:.1} h opens its object now, under credentials that end"),
            "A URL ends with the credentials that signed it: give a key of its own \
             (s3.access_key_id), or shorten urls.output_ttl_s.",
        ),
        Ok(()) => Check::ok(NAME, format!("one for {hours:.1} h opens its object")),
        Err(error) => Check::not(
            NAME,
            Stands::Wrong,
            error_chain(&error),
            "Clients and workers are given such URLs: s3.public_endpoint must be reached by both, \
             urls.output_ttl_s be at most 7 days, and the bucket's policy demand no header of a PUT.",
        ),
    }
}

/// Whether what comes by presigned addresses, which carry no headers, is encrypted as the rest.
async fn encryption(ingest: &Ingest) -> Option<Check> {
    let wanted = &ingest.config.s3.encryption;
    if *wanted == Encryption::Bucket {
        return None;
    }
    let answer = ingest.objects.default_encryption().await;
    let answer = answer.unwrap_or_else(|error| DefaultEncryption::NotKnown(error_chain(&error)));
    Some(encrypted(wanted, answer))
}

fn encrypted(wanted: &Encryption, answer: DefaultEncryption) -> Check {
    const NAME: &str = "encryption_default";
    let advice = format!(
        "Give the bucket this default encryption: {}. What workers push and clients upload comes by \
         presigned addresses, which cannot ask for it as s3.encryption does.",
        wanted.told()
    );
    match answer {
        DefaultEncryption::Set(there) if there.covers(wanted) => {
            Check::ok(NAME, format!("the bucket's own is {}", there.told()))
        }
        DefaultEncryption::Set(there) => Check::not(
            NAME,
            Stands::Warning,
            format!("the bucket's own is {}", there.told()),
            advice,
        ),
        DefaultEncryption::NotKnown(why) => Check::not(
            NAME,
            Stands::Unknown,
            format!("the bucket does not tell its own ({why})"),
            advice,
        ),
    }
}

async fn lifecycle(ingest: &Ingest) -> [Check; 3] {
    let objects = &ingest.objects;
    let answer = match objects.lifecycle().await {
        Ok(answer) => answer,
        Err(error) => Lifecycle::NotKnown(error_chain(&error)),
    };
    let (all, rescue) = (objects.uploads_prefix(), objects.rescue_prefix());
    let inputs = objects.inputs_prefix();
    [
        rule(
            "lifecycle_uploads",
            &answer,
            answer.aborts_under(&all),
            &all,
            ABORT_ADVICE,
        ),
        rule(
            "lifecycle_rescue",
            &answer,
            answer.expires_under(&rescue),
            &rescue,
            EXPIRE_ADVICE,
        ),
        rule(
            "lifecycle_inputs",
            &answer,
            answer.expires_under(&inputs),
            &inputs,
            INPUTS_ADVICE,
        ),
    ]
}

fn rule(name: &str, answer: &Lifecycle, days: Option<u32>, prefix: &str, advice: &str) -> Check {
    let place = if prefix.is_empty() {
        "everything"
    } else {
        prefix
    };
    match (answer, days) {
        (_, Some(days)) => Check::ok(name, format!("after {days} day(s) over {place}")),
        (Lifecycle::Rules(_), None) => Check::not(
            name,
            Stands::Warning,
            format!("no rule in force covers {place}"),
            format!("{advice} {place}: what a process that died left behind stays, and costs."),
        ),
        (Lifecycle::NotKnown(why), None) => Check::not(
            name,
            Stands::Unknown,
            format!("the bucket does not tell its rules ({why})"),
            format!(
                "{advice} {place}, if it is not there; this key may not ask, or the bucket knows no rules."
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_objects::LifecycleRule;

    #[test]
    fn a_default_that_is_less_than_what_is_asked_for_is_told() {
        let of = |wanted, there| encrypted(&wanted, DefaultEncryption::Set(there));
        let kms = || Encryption::Kms { key_id: None };
        assert_eq!(of(Encryption::Aes256, kms()).state, Stands::Ok);
        let less = of(kms(), Encryption::Aes256);
        assert_eq!(less.state, Stands::Warning);
        assert!(less.advice.unwrap().contains("aws:kms"));
        let unknown = DefaultEncryption::NotKnown("403".to_owned());
        assert_eq!(encrypted(&kms(), unknown).state, Stands::Unknown);
    }

    #[test]
    fn a_rule_is_there_missing_or_not_known() {
        let there = Lifecycle::Rules(vec![LifecycleRule {
            abort_days: Some(1),
            ..LifecycleRule::default()
        }]);
        let of = |answer: &Lifecycle| {
            let days = answer.aborts_under("media/");
            rule("uploads", answer, days, "media/", ABORT_ADVICE)
        };
        assert_eq!(of(&there).state, Stands::Ok);
        let missing = of(&Lifecycle::Rules(Vec::new()));
        assert_eq!(missing.state, Stands::Warning);
        assert!(missing.advice.unwrap().contains("media/"));
        let unknown = of(&Lifecycle::NotKnown("501".to_owned()));
        assert_eq!(unknown.state, Stands::Unknown, "not a failure");
    }
}
