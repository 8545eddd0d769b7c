// SPDX-License-Identifier: Apache-2.0
// netlinkfuzz: commands of the family in random order with random attributes, well-formed and not.
//
//   --seed N         everything follows from it, but for the kernel's answers
//   --threads N      so many sockets at once (default 4); each is closed and opened now and then
//   --messages N     of each thread
//   --dev PATH ...   disks that may be attached
//
// Most messages are well-formed with numbers that may exist (of disks, passes and gates that
// answers have told), so that all states are entered; others lack attributes, have too many, wrong
// types, lengths that lie, nests that end early, or are noise. Prints how often each answer came.
// Exit status 0 unless the kernel stopped to answer.
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/msg.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "lib/client.h"
#include "lib/options.h"

namespace ebb::kmodtest {
namespace {

// Numbers that the kernel has told, of all threads.
struct Known {
    std::atomic<std::uint64_t> disk{1};
    std::atomic<std::uint64_t> pass{1};
    std::atomic<std::uint64_t> gate{1};
};

class Message {
public:
    Message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence, std::uint8_t command,
            std::uint8_t version) {
        nlmsghdr header{};
        header.nlmsg_type = type;
        header.nlmsg_flags = flags;
        header.nlmsg_seq = sequence;
        genlmsghdr generic{command, version, 0};
        add(&header, sizeof(header));
        add(&generic, sizeof(generic));
        finish();
    }
    void attribute(std::uint16_t type, const void* data, std::size_t length, int lie) {
        nlattr head{};
        head.nla_len = static_cast<std::uint16_t>(static_cast<long>(sizeof(head) + length) + lie);
        head.nla_type = type;
        add(&head, sizeof(head));
        add(data, length);
        while (bytes_.size() % 4) bytes_.push_back(0);
        finish();
    }
    void add(const void* data, std::size_t length) {
        const auto* at = static_cast<const std::uint8_t*>(data);
        bytes_.insert(bytes_.end(), at, at + length);
    }
    void finish() {
        auto length = static_cast<std::uint32_t>(bytes_.size());
        std::memcpy(bytes_.data(), &length, sizeof(length));
    }
    std::vector<std::uint8_t>& bytes() { return bytes_; }

private:
    std::vector<std::uint8_t> bytes_;
};

class Fuzzer {
public:
    Fuzzer(const Options& options, std::uint64_t number, int family, Known& known)
        : random_(options.number("seed", 1) * 1000 + number), family_(family), known_(known) {
        for (const auto& path : options.all("dev")) devices_.push_back(device_number(path));
        for (const auto& path : options.all("map")) map_ = device_number(path);
    }
    ~Fuzzer() { hang_up(); }
    Fuzzer(const Fuzzer&) = delete;
    Fuzzer& operator=(const Fuzzer&) = delete;

    bool run(std::uint64_t messages) {
        for (std::uint64_t i = 0; i < messages; ++i) {
            if (socket_ < 0 || chance(150)) dial();
            if (socket_ < 0 || !send_one()) return false;
        }
        return true;
    }
    const std::map<int, std::uint64_t>& answers() const { return answers_; }

private:
    std::uint64_t below(std::uint64_t n) { return random_() % n; }
    bool chance(std::uint64_t one_in) { return below(one_in) == 0; }

    void hang_up() {
        if (socket_ >= 0) close(socket_);
        socket_ = -1;
    }
    void dial() {
        hang_up();
        socket_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    }

    std::uint64_t about(std::uint64_t latest) {
        return chance(8) ? random_() : latest + 1 - std::min(latest, below(4));
    }

    void number(Message& message, std::uint16_t type, std::uint64_t value, std::size_t width) {
        message.attribute(type, &value, width, 0);
    }

    void extents(Message& message) {
        std::vector<ebb_extent> list(below(chance(20) ? 600 : 5));
        for (auto& e : list) {
            e.sector = chance(10) ? random_() : below(9000) * 8;
            e.nr_sectors = static_cast<std::uint32_t>(chance(10) ? random_() : below(40) * 8);
            e.flags = static_cast<std::uint32_t>(below(8));
        }
        message.attribute(EBB_A_EXTENTS, list.data(), list.size() * sizeof(ebb_extent), 0);
    }

    // An area on the map device that may be another disk's as well.
    void log(Message& message) {
        Message nest(0, 0, 0, 0, 0);
        nest.bytes().clear();
        const auto area = [&](std::uint16_t type, std::uint64_t value, std::size_t width) {
            if (!chance(40)) nest.attribute(type, &value, width, 0);
        };
        area(EBB_LOG_A_DEV, chance(10) ? pick() : map_, 8);
        area(EBB_LOG_A_SECTOR, chance(10) ? random_() : below(4) * 2048, 8);
        area(EBB_LOG_A_SECTORS, chance(10) ? random_() : 2048, 8);
        area(EBB_LOG_A_FLAGS, below(chance(10) ? 8 : 2), 4);
        std::array<std::uint64_t, 2> boot{1, below(3)};
        if (!chance(40)) nest.attribute(EBB_LOG_A_BOOT_ID, boot.data(), sizeof(boot), 0);
        message.attribute(EBB_A_LOG | NLA_F_NESTED, nest.bytes().data(), nest.bytes().size(), 0);
    }

    void text(Message& message, std::uint16_t type, std::uint64_t length) {
        std::array<std::uint8_t, 300> bytes{};
        bytes.fill(static_cast<std::uint8_t>(random_()));
        message.attribute(type, bytes.data(), length, 0);
    }

    // An attribute as its type demands, with a value that may be right.
    void good_attribute(Message& message, std::uint16_t type) {
        switch (type) {
            case EBB_A_GROUP: number(message, type, 1 + below(3), 4); break;
            case EBB_A_DEV:
                number(message, type, devices_.empty() || chance(10) ? random_() : pick(), 8);
                break;
            case EBB_A_DISK_ID: number(message, type, about(known_.disk), 4); break;
            case EBB_A_STABLE_ID: message.attribute(type, "fuzz", 5, 0); break;
            case EBB_A_PASS_ID: number(message, type, about(known_.pass), 8); break;
            case EBB_A_PASS_KIND:
            case EBB_A_PASS_FLAGS: number(message, type, below(2), 4); break;
            case EBB_A_SECTOR:
                number(message, type, chance(8) ? random_() : below(2) * 4096, 8);
                break;
            case EBB_A_GATE_ID: number(message, type, about(known_.gate), 8); break;
            case EBB_A_GATE_DEADLINE_MS: number(message, type, 1 + below(40), 4); break;
            case EBB_A_EXTENTS: extents(message); break;
            case EBB_A_LOG: log(message); break;
            case EBB_A_MARK_FLAGS: number(message, type, below(chance(10) ? 8 : 2), 4); break;
            case EBB_A_COOKIE: text(message, type, EBB_COOKIE_LEN); break;
            case EBB_A_NOTE: text(message, type, below(EBB_NOTE_MAX + 20)); break;
            default: noise_attribute(message, type); break;
        }
    }

    void noise_attribute(Message& message, std::uint16_t type) {
        std::array<std::uint64_t, 40> noise{};
        for (auto& word : noise) word = random_();
        message.attribute(type, noise.data(), below(sizeof(noise)), 0);
    }

    std::uint64_t pick() { return devices_[below(devices_.size())]; }

    static const std::vector<std::uint16_t>& wanted(std::uint8_t command) {
        static const std::map<std::uint8_t, std::vector<std::uint16_t>> attributes = {
            {EBB_CMD_DISK_ATTACH, {EBB_A_GROUP, EBB_A_DEV, EBB_A_STABLE_ID}},
            {EBB_CMD_DISK_DETACH, {EBB_A_DISK_ID}},
            {EBB_CMD_DISK_GET, {EBB_A_DISK_ID}},
            {EBB_CMD_DISK_MARK_ALL, {EBB_A_DISK_ID}},
            {EBB_CMD_DISK_MARK, {EBB_A_DISK_ID, EBB_A_EXTENTS}},
            {EBB_CMD_PASS_BEGIN, {EBB_A_GROUP, EBB_A_PASS_KIND}},
            {EBB_CMD_PASS_GET, {EBB_A_GROUP}},
            {EBB_CMD_PASS_MAP, {EBB_A_PASS_ID, EBB_A_DISK_ID, EBB_A_SECTOR}},
            {EBB_CMD_PASS_RELEASE, {EBB_A_PASS_ID, EBB_A_DISK_ID, EBB_A_EXTENTS}},
            {EBB_CMD_PASS_END, {EBB_A_PASS_ID}},
            {EBB_CMD_EPOCH_CONFIRM, {EBB_A_GROUP}},
            {EBB_CMD_EPOCH_ABANDON, {EBB_A_GROUP}},
            {EBB_CMD_GATE_CLOSE, {EBB_A_GROUP, EBB_A_GATE_DEADLINE_MS}},
            {EBB_CMD_GATE_OPEN, {EBB_A_GROUP, EBB_A_GATE_ID}},
            {EBB_CMD_DISK_WITNESS, {EBB_A_DISK_ID, EBB_A_EXTENTS}},
            {EBB_CMD_COOKIE_SET, {EBB_A_GROUP, EBB_A_COOKIE}},
        };
        static const std::vector<std::uint16_t> none;
        auto found = attributes.find(command);
        return found == attributes.end() ? none : found->second;
    }

    static std::vector<std::uint16_t> may_have(std::uint8_t command) {
        switch (command) {
            case EBB_CMD_DISK_ATTACH: return {EBB_A_LOG};
            case EBB_CMD_DISK_MARK:
            case EBB_CMD_DISK_MARK_ALL: return {EBB_A_MARK_FLAGS};
            case EBB_CMD_EPOCH_CONFIRM: return {EBB_A_COOKIE};
            case EBB_CMD_COOKIE_SET: return {EBB_A_NOTE};
            default: return {};
        }
    }

    Message make() {
        auto command = static_cast<std::uint8_t>(below(EBB_CMD_MAX + (chance(10) ? 200 : 1)));
        // Few detaches and attaches: most of the time there is something to be asked for.
        bool rare = command == EBB_CMD_DISK_DETACH || command == EBB_CMD_EPOCH_ABANDON;
        if (rare && !chance(5)) command = EBB_CMD_PASS_BEGIN;
        std::uint16_t flags = NLM_F_REQUEST | NLM_F_ACK;
        if (command == EBB_CMD_DISK_GET && chance(3)) flags |= NLM_F_DUMP;
        if (chance(30)) flags = static_cast<std::uint16_t>(random_());
        flags |= NLM_F_ACK | NLM_F_REQUEST;
        Message message(static_cast<std::uint16_t>(family_), flags, ++sequence_, command,
                        static_cast<std::uint8_t>(chance(20) ? random_() : EBB_GENL_VERSION));
        for (std::uint16_t type : wanted(command))
            if (!chance(12)) good_attribute(message, type);
        if (command == EBB_CMD_PASS_BEGIN && chance(3)) good_attribute(message, EBB_A_GATE_ID);
        for (std::uint16_t type : may_have(command))
            if (chance(2)) good_attribute(message, type);
        while (chance(4)) good_attribute(message, any_type());
        if (chance(5)) spoil(message);
        return message;
    }

    std::uint16_t any_type() { return static_cast<std::uint16_t>(below(EBB_A_MAX + 3)); }

    void spoil(Message& message) {
        auto& bytes = message.bytes();
        switch (below(6)) {
            case 0: noise_attribute(message, any_type()); break;
            case 1:
                message.attribute(any_type(), &bytes[0], 8, static_cast<int>(below(64)) - 12);
                break;
            case 2: {  // a nest, in a nest, whose length lies
                std::array<std::uint16_t, 8> nest{};
                for (auto& half : nest) half = static_cast<std::uint16_t>(random_());
                auto type = static_cast<std::uint16_t>(any_type() | NLA_F_NESTED);
                message.attribute(type, nest.data(), sizeof(nest), static_cast<int>(below(40)));
                break;
            }
            case 3:  // cut off in the middle
                bytes.resize(16 + below(bytes.size() - 15));
                message.finish();
                break;
            case 4:  // bits flip behind the family's number and flags
                for (std::uint64_t i = below(8) + 1; i > 0 && bytes.size() > 16; --i)
                    bytes[16 + below(bytes.size() - 16)] ^=
                        static_cast<std::uint8_t>(1u << below(8));
                break;
            default: {  // trailing noise
                std::uint64_t noise = random_();
                message.add(&noise, 1 + below(8));
                message.finish();
                break;
            }
        }
    }

    bool send_one() {
        Message message = make();
        auto& bytes = message.bytes();
        sockaddr_nl kernel{};
        kernel.nl_family = AF_NETLINK;
        ssize_t sent = sendto(socket_, bytes.data(), bytes.size(), 0,
                              reinterpret_cast<sockaddr*>(&kernel), sizeof(kernel));
        // What is shorter than its header is not looked at, and not answered.
        if (sent < 0 || bytes.size() < NLMSG_HDRLEN) return true;
        return receive();
    }

    // Until the acknowledgement. Commands may wait for writes, but not for minutes.
    bool receive() {
        alignas(8) static thread_local std::array<std::uint8_t, 1 << 17> buffer;
        for (;;) {
            pollfd wait{socket_, POLLIN, 0};
            if (poll(&wait, 1, 120000) != 1) {
                fprintf(stderr, "netlinkfuzz: no answer in 120 s\n");
                return false;
            }
            ssize_t got = recv(socket_, buffer.data(), buffer.size(), 0);
            if (got < 0) return errno == ENOBUFS || errno == EINTR;
            if (take(buffer.data(), static_cast<std::size_t>(got))) return true;
        }
    }

    // Whether it was the last one of an exchange.
    bool take(std::uint8_t* data, std::size_t length) {
        int left = static_cast<int>(length);
        for (auto* header = reinterpret_cast<nlmsghdr*>(data); nlmsg_ok(header, left);
             header = nlmsg_next(header, &left)) {
            if (header->nlmsg_type == NLMSG_ERROR) {
                ++answers_[static_cast<nlmsgerr*>(NLMSG_DATA(header))->error];
                return true;
            }
            if (header->nlmsg_type == NLMSG_DONE) return true;
            if (header->nlmsg_type == family_) learn(header);
        }
        return false;
    }

    void learn(nlmsghdr* header) {
        Reply reply = decode(header);
        if (reply.disk.numbers.contains(EBB_DISK_A_ID)) known_.disk = reply.disk[EBB_DISK_A_ID];
        if (reply.pass.numbers.contains(EBB_PASS_A_ID)) known_.pass = reply.pass[EBB_PASS_A_ID];
        if (reply.top.numbers.contains(EBB_A_GATE_ID)) known_.gate = reply.top[EBB_A_GATE_ID];
    }

    std::mt19937_64 random_;
    int family_;
    Known& known_;
    int socket_ = -1;
    std::uint32_t sequence_ = 0;
    std::vector<std::uint64_t> devices_;
    std::uint64_t map_ = 0;
    std::map<int, std::uint64_t> answers_;
};

int main(int argc, char** argv) {
    Options options(argc, argv, {});
    Client client;
    if (client.open() != 0) {
        fprintf(stderr, "netlinkfuzz: %s\n", client.message().c_str());
        return 2;
    }
    Known known;
    std::mutex lock;
    std::map<int, std::uint64_t> answers;
    std::atomic<bool> good{true};
    {
        std::vector<std::jthread> threads;
        for (std::uint64_t i = 0; i < options.number("threads", 4); ++i)
            threads.emplace_back([&, i] {
                Fuzzer fuzzer(options, i, client.family(), known);
                if (!fuzzer.run(options.number("messages", 1000))) good = false;
                std::scoped_lock held(lock);
                for (const auto& [error, count] : fuzzer.answers()) answers[error] += count;
            });
    }
    for (const auto& [error, count] : answers)
        printf("%s %llu\n", error ? strerrorname_np(-error) : "ok",
               static_cast<unsigned long long>(count));
    return good ? 0 : 1;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
