// SPDX-License-Identifier: Apache-2.0
#include "ctl/certificate.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "ctl/show.h"
#include "ctl/watch.h"

namespace ebb::ctl {

namespace {

using api::Json;

Refusal refusal_of(const std::string& code, const std::string& message, const std::string& remedy) {
    return {{refusal(code, message, remedy)}, false};
}

std::string in_words(const Json& statement) {
    std::string out =
        "machine " + api::text(statement, "machine") + ", point " +
        std::to_string(statement.value("point", Json::object()).value("epoch", std::uint64_t{0})) +
        "\n";
    for (const auto& claim : statement.value("claims", std::vector<std::string>{}))
        out += "- " + claim + "\n";
    return out;
}

// One that is there already is replaced by a whole one, or stays. What is no regular file (a pipe,
// a terminal) is written to.
bool write_whole(const std::string& file, const std::string& content) {
    std::error_code error;
    const auto status = std::filesystem::status(file, error);
    const bool aside = !std::filesystem::exists(status) || std::filesystem::is_regular_file(status);
    const auto place =
        std::filesystem::exists(status) ? std::filesystem::canonical(file, error).string() : file;
    const std::string to = aside ? place + "." + std::to_string(::getpid()) + ".new" : file;
    std::ofstream out(to, std::ios::trunc);
    out << content << std::flush;
    out.close();
    if (!aside) return bool(out);
    if (out) std::filesystem::rename(to, place, error);
    if (out && !error) return true;
    std::filesystem::remove(to, error);
    return false;
}

}  // namespace

int take_certificate(const std::string& socket, std::uint64_t job, const std::string& file,
                     const Report& report) {
    auto ended = wait_for_job(socket, job, report);
    if (!ended) return report.refused(ended.error());
    const auto made = ended->value("value", Json());
    if (ended->value("state", "") != "done" || !made.is_object()) return report.job(*ended);
    if (!write_whole(file, api::dump(made) + "\n"))
        return report.refused(refusal_of("E_IO", "cannot write to " + file, "Name another file"));
    auto statement = api::parse(api::text(made, "statement"));
    return report.value(made, statement ? in_words(*statement) : "");
}

int check_certificate(const std::string& socket, const std::string& file, const Report& report) {
    std::ifstream in(file);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    auto document = api::parse(text);
    if (!in || !document || !document->is_object()) {
        return report.refused(refusal_of("E_POINT_CERTIFICATE",
                                         file + " is no certificate of a point",
                                         "Name a file that ebbctl point certify has written"));
    }
    auto said = call(socket, "/v1/check-certificate",
                     {{"statement", api::text(*document, "statement")},
                      {"signature", api::text(*document, "signature")},
                      {"authority", api::text(*document, "authority")}});
    if (!said) return report.refused(said.error());
    return report.value(*said, "The signature is good.\n" + in_words(*said));
}

}  // namespace ebb::ctl
