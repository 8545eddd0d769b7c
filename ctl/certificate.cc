// SPDX-License-Identifier: Apache-2.0
#include "ctl/certificate.h"

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

}  // namespace

int take_certificate(const std::string& socket, std::uint64_t job, const std::string& file,
                     const Report& report) {
    auto ended = wait_for_job(socket, job, report);
    if (!ended) return report.refused(ended.error());
    const auto made = ended->value("value", Json());
    if (ended->value("state", "") != "done" || !made.is_object()) return report.job(*ended);
    std::ofstream out(file, std::ios::trunc);
    out << api::dump(made) << "\n" << std::flush;
    if (!out)
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
