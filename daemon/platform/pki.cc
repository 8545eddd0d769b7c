// SPDX-License-Identifier: Apache-2.0
#include "platform/pki.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace ebb::platform {

namespace {

constexpr long seconds_a_day = 24L * 60 * 60;
constexpr long ten_years = 3652 * seconds_a_day;
// Clocks of machines that join may be a little behind.
constexpr long clock_slack = seconds_a_day;
constexpr std::size_t fingerprint_bytes = 20;

template <auto Free>
struct Freer {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Request = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using Bio = std::unique_ptr<BIO, Freer<BIO_free>>;
using Digester = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;
using Number = std::unique_ptr<BIGNUM, Freer<BN_free>>;

std::unexpected<Error> failed(const std::string& what, ErrorCode code = ErrorCode::internal) {
    char words[256];
    ERR_error_string_n(ERR_get_error(), words, sizeof(words));
    ERR_clear_error();
    return fail(code, what + ": " + words);
}

Bio reader(const std::string& pem) {
    return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

template <class Write>
Result<std::string> to_pem(Write write) {
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || write(bio.get()) != 1) return failed("writing PEM");
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
}

Result<Key> make_key() {
    Key key(EVP_EC_gen("P-256"));
    if (!key) return failed("making a key");
    return key;
}

Result<std::string> key_pem(EVP_PKEY* key) {
    return to_pem([&](BIO* out) {
        return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

bool set_common_name(X509_NAME* name, const std::string& text) {
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(text.data()),
                                      static_cast<int>(text.size()), -1, 0) == 1;
}

// A serial number nobody else has.
bool set_serial(X509* certificate) {
    const Number number(BN_new());
    return number && BN_rand(number.get(), 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
           BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool add_extension(X509* certificate, X509* issuer, int kind, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>> extension(
        X509V3_EXT_conf_nid(nullptr, &context, kind, value));
    return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool set_basics(X509* certificate, EVP_PKEY* key) {
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -clock_slack) != nullptr &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), ten_years) != nullptr &&
           X509_set_pubkey(certificate, key) == 1;
}

std::string base32(std::span<const unsigned char> bytes) {
    static constexpr char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    std::string text;
    unsigned held = 0;
    unsigned bits = 0;
    for (const auto byte : bytes) {
        held = held << 8 | byte;
        bits += 8;
        while (bits >= 5) {
            text += digits[held >> (bits - 5) & 31];
            bits -= 5;
        }
    }
    if (bits > 0) text += digits[held << (5 - bits) & 31];
    return text;
}

Result<Certificate> read_certificate(const std::string& pem) {
    Certificate certificate(PEM_read_bio_X509(reader(pem).get(), nullptr, nullptr, nullptr));
    if (!certificate) return failed("reading a certificate", ErrorCode::invalid);
    return certificate;
}

Status check_request(X509_REQ* request, EVP_PKEY* key, const std::string& common_name) {
    if (key == nullptr || X509_REQ_verify(request, key) != 1)
        return failed("a request that its key did not sign", ErrorCode::invalid);
    char name[256] = "";
    X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(request), NID_commonName, name,
                              sizeof(name));
    if (name == common_name) return {};
    return fail(ErrorCode::invalid,
                std::string("the request is for ") + name + ", not for " + common_name);
}

}  // namespace

Result<KeyAndCertificate> make_authority(const std::string& name) {
    const auto key = make_key();
    if (!key) return std::unexpected(key.error());
    const Certificate certificate(X509_new());
    if (!certificate || !set_basics(certificate.get(), key->get()) ||
        !set_common_name(X509_get_subject_name(certificate.get()), name) ||
        X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get())) != 1 ||
        !add_extension(certificate.get(), certificate.get(), NID_basic_constraints,
                       "critical,CA:TRUE,pathlen:0") ||
        !add_extension(certificate.get(), certificate.get(), NID_key_usage,
                       "critical,keyCertSign,cRLSign") ||
        !add_extension(certificate.get(), certificate.get(), NID_subject_key_identifier, "hash") ||
        X509_sign(certificate.get(), key->get(), EVP_sha256()) == 0)
        return failed("making the authority's certificate");
    auto key_text = key_pem(key->get());
    if (!key_text) return std::unexpected(key_text.error());
    auto text = to_pem([&](BIO* out) { return PEM_write_bio_X509(out, certificate.get()); });
    if (!text) return std::unexpected(text.error());
    return KeyAndCertificate{std::move(*key_text), std::move(*text)};
}

Result<KeyAndRequest> make_request(const std::string& common_name) {
    const auto key = make_key();
    if (!key) return std::unexpected(key.error());
    const Request request(X509_REQ_new());
    if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
        !set_common_name(X509_REQ_get_subject_name(request.get()), common_name) ||
        X509_REQ_set_pubkey(request.get(), key->get()) != 1 ||
        X509_REQ_sign(request.get(), key->get(), EVP_sha256()) == 0)
        return failed("making a request for a certificate");
    auto key_text = key_pem(key->get());
    if (!key_text) return std::unexpected(key_text.error());
    auto text = to_pem([&](BIO* out) { return PEM_write_bio_X509_REQ(out, request.get()); });
    if (!text) return std::unexpected(text.error());
    return KeyAndRequest{std::move(*key_text), std::move(*text)};
}

Result<SignedCertificate> sign_request(const KeyAndCertificate& authority,
                                       const std::string& request_pem,
                                       const std::string& common_name) {
    const Request request(
        PEM_read_bio_X509_REQ(reader(request_pem).get(), nullptr, nullptr, nullptr));
    if (!request) return failed("reading the request", ErrorCode::invalid);
    EVP_PKEY* subject_key = X509_REQ_get0_pubkey(request.get());
    if (auto ok = check_request(request.get(), subject_key, common_name); !ok)
        return std::unexpected(ok.error());
    const Key key(PEM_read_bio_PrivateKey(reader(authority.key).get(), nullptr, nullptr, nullptr));
    if (!key) return failed("reading the authority's key", ErrorCode::invalid);
    const auto issuer = read_certificate(authority.certificate);
    if (!issuer) return std::unexpected(issuer.error());
    const Certificate certificate(X509_new());
    if (!certificate || !set_basics(certificate.get(), subject_key) ||
        !set_common_name(X509_get_subject_name(certificate.get()), common_name) ||
        X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer->get())) != 1 ||
        !add_extension(certificate.get(), issuer->get(), NID_basic_constraints,
                       "critical,CA:FALSE") ||
        !add_extension(certificate.get(), issuer->get(), NID_ext_key_usage,
                       "serverAuth,clientAuth") ||
        X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0)
        return failed("signing the certificate");
    auto text = to_pem([&](BIO* out) { return PEM_write_bio_X509(out, certificate.get()); });
    if (!text) return std::unexpected(text.error());
    const Number serial(ASN1_INTEGER_to_BN(X509_get_serialNumber(certificate.get()), nullptr));
    char* hex = BN_bn2hex(serial.get());
    SignedCertificate result{std::move(*text), hex};
    OPENSSL_free(hex);
    return result;
}

Result<std::string> sign_text(const KeyAndCertificate& authority, const std::string& text) {
    const Key key(PEM_read_bio_PrivateKey(reader(authority.key).get(), nullptr, nullptr, nullptr));
    if (!key) return failed("reading the authority's key", ErrorCode::invalid);
    const Digester context(EVP_MD_CTX_new());
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t size = 0;
    if (!context ||
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) != 1)
        return failed("signing");
    std::vector<unsigned char> signature(size);
    if (EVP_DigestSign(context.get(), signature.data(), &size, bytes, text.size()) != 1)
        return failed("signing");
    std::string base64(4 * ((size + 2) / 3) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                                       signature.data(), static_cast<int>(size));
    base64.resize(static_cast<std::size_t>(length));
    return base64;
}

Status check_signature(const std::string& certificate, const std::string& text,
                       const std::string& signature) {
    const auto denied = [] {
        ERR_clear_error();
        return fail(ErrorCode::denied, "the signature does not match the statement");
    };
    const auto signer = read_certificate(certificate);
    if (!signer) return std::unexpected(signer.error());
    if (signature.empty() || signature.size() % 4 != 0) return denied();
    std::vector<unsigned char> der(signature.size() / 4 * 3);
    const int decoded =
        EVP_DecodeBlock(der.data(), reinterpret_cast<const unsigned char*>(signature.data()),
                        static_cast<int>(signature.size()));
    if (decoded < 0) return denied();
    // Padding is decoded as zeroes.
    auto size = static_cast<std::size_t>(decoded);
    for (auto at = signature.rbegin(); at != signature.rend() && *at == '=' && size > 0; ++at)
        --size;
    const Digester context(EVP_MD_CTX_new());
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    EVP_PKEY* key = X509_get0_pubkey(signer->get());
    if (!context || key == nullptr ||
        EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
        EVP_DigestVerify(context.get(), der.data(), size, bytes, text.size()) != 1)
        return denied();
    return {};
}

Result<std::string> fingerprint(const std::string& pem) {
    const auto certificate = read_certificate(pem);
    if (!certificate) return std::unexpected(certificate.error());
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(certificate->get(), EVP_sha256(), digest, &size) != 1)
        return failed("the certificate's digest");
    return base32(std::span(digest).first(fingerprint_bytes));
}

std::string random_word() {
    unsigned char bytes[16];
    // Without entropy there is no security to be had: a bug of the machine.
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) std::abort();
    return base32(bytes);
}

}  // namespace ebb::platform
