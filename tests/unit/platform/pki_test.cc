// SPDX-License-Identifier: Apache-2.0
#include "platform/pki.h"

#include <gtest/gtest.h>

namespace ebb::platform {
namespace {

class Signature : public testing::Test {
protected:
    Signature() {
        auto made = make_authority("test");
        EXPECT_TRUE(made.has_value());
        if (made) authority_ = *made;
        auto signature = sign_text(authority_, "what is said");
        EXPECT_TRUE(signature.has_value());
        if (signature) signature_ = *signature;
    }
    ErrorCode checked(const std::string& text, const std::string& signature) {
        auto ok = check_signature(authority_.certificate, text, signature);
        return ok ? ErrorCode::internal : ok.error().code;
    }

    KeyAndCertificate authority_;
    std::string signature_;
};

TEST_F(Signature, IsGoodForItsTextAndCertificate) {
    EXPECT_TRUE(check_signature(authority_.certificate, "what is said", signature_).has_value());
    EXPECT_EQ(checked("what is Said", signature_), ErrorCode::denied);
    EXPECT_EQ(checked("", signature_), ErrorCode::denied);
    const auto other = make_authority("test");
    ASSERT_TRUE(other.has_value());
    EXPECT_FALSE(check_signature(other->certificate, "what is said", signature_).has_value());
}

TEST_F(Signature, AnythingElseIsNone) {
    for (const std::string& text :
         {std::string(), std::string("A"), std::string("===="), std::string("no base64 at all"),
          std::string(400, 'A'), signature_ + "AAAA", signature_.substr(4)})
        EXPECT_EQ(checked("what is said", text), ErrorCode::denied) << text;
}

TEST_F(Signature, NeedsAKeyAndACertificate) {
    EXPECT_EQ(sign_text({"no key", ""}, "x").error().code, ErrorCode::invalid);
    EXPECT_EQ(check_signature("none", "x", signature_).error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace ebb::platform
