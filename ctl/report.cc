// SPDX-License-Identifier: Apache-2.0
#include "ctl/report.h"

#include <iostream>

#include "api/error.h"
#include "ctl/show.h"

namespace ebb::ctl {

namespace {

using api::Json;

Json encoded(const Error& error) {
    return api::encode(api::to_info(error));
}

void complain(const Error& error) {
    std::cerr << "ebbctl: " << error.name() << ": " << error.message << "\n";
    if (!error.remedy.empty()) std::cerr << "        " << error.remedy << ".\n";
}

}  // namespace

int Report::value(const Json& value, const std::string& text) const {
    if (json_)
        std::cout << api::dump(value) << "\n";
    else
        std::cout << text;
    return 0;
}

int Report::refused(const Refusal& refusal) const {
    if (json_) {
        Json body{{"error", encoded(refusal.reasons.front())}, {"reasons", Json::array()}};
        for (const auto& reason : refusal.reasons) body["reasons"].push_back(encoded(reason));
        std::cout << api::dump(body) << "\n";
    } else {
        for (const auto& reason : refusal.reasons) complain(reason);
    }
    return refusal.unreachable ? exit_controller : exit_refused;
}

int Report::misused(const std::string& what) const {
    const Error error{ErrorCode::invalid, what, "See ebbctl --help and ebbctl COMMAND --help",
                      "E_USAGE"};
    if (json_)
        std::cout << api::dump({{"error", encoded(error)}}) << "\n";
    else
        complain(error);
    return exit_usage;
}

int Report::job(const Json& job) const {
    if (json_) std::cout << api::dump(job) << "\n";
    if (job.value("state", "") == "done") return 0;
    if (!json_) {
        auto info = api::decode<api::ErrorInfo>(job.value("error", Json()));
        if (info) complain(api::from_info(*info));
    }
    return exit_job_failed;
}

int Report::jobs(const Json& jobs) const {
    if (json_) std::cout << api::dump(Json{{"jobs", jobs}}) << "\n";
    const Report in_words(false);
    int worst = 0;
    for (const auto& one : jobs) {
        const bool done = one.value("state", "") == "done";
        if (!done) worst = json_ ? exit_job_failed : in_words.job(one);
    }
    return worst;
}

int Report::dry_run(const Json& found) const {
    const bool granted = found.value("reasons", Json::array()).empty();
    const int status = value(found, show_dry_run(found));
    return granted ? status : exit_refused;
}

}  // namespace ebb::ctl
