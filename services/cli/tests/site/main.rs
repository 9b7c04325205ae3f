//! `photofinish` as a process against the whole product: the transcript in the README, a terminal, pipes and signals.
//!
//! One site for everything here: it is the product that takes long to start, not the command line.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that is not answered fails with what it was told"
)]

mod bench;
mod examples;
mod operators;
mod pipes;
mod terminal;
mod transcript;
mod webhooks;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_against_the_whole_product() {
    let bench = bench::Bench::start().await;
    let session = transcript::replayed(&bench).await;
    terminal::tables_fit_and_colours_are_welcome_or_not(&bench).await;
    terminal::a_bar_for_each_part(&bench).await;
    pipes::one_invocation_is_one_job_and_files_go_up_once(&bench).await;
    pipes::json_is_one_document_and_lines_where_it_follows(&bench).await;
    pipes::a_closed_pipe_is_quiet(&bench).await;
    pipes::ctrl_c_says_how_to_go_on(&bench).await;
    pipes::a_retry_is_followed_to_an_end_of_its_own(&bench).await;
    pipes::profiles_under_the_environment_under_flags(&bench).await;
    examples::over_http(&bench).await;
    operators::keys_are_made_listed_and_revoked(&bench).await;
    webhooks::they_are_made_tested_and_changed(&bench).await;
    operators::refused_messages_are_shown_replayed_and_dropped(&bench).await;
    operators::tenants_are_limited(&bench).await;
    operators::users_at_the_broker_are_made_and_taken_away(&bench).await;
    operators::tenants_and_endpoints_are_paused(&bench).await;
    operators::what_is_deleted_is_gone(&bench).await;
    operators::what_is_not_kept_goes_by_itself(&bench).await;
    // Last, so that all else was tried, too, when only the README is behind.
    if let Err(difference) = session {
        panic!("{difference}");
    }
    bench.end().await;
}
