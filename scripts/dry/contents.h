/* What is known of the card's memory: for some storages of torch, the bytes that a card would hold, kept on the host.
 *
 * A storage is known as a whole or not at all. Numbers and masks that decide shapes are small: up to LIMIT bytes are kept,
 * of floats and single bytes, which are mostly weights and pixels, up to SMALL. Nothing here changes how long a storage
 * lives.
 */
#ifndef CONTENTS_H
#define CONTENTS_H

#include <ATen/ATen.h>
#include <mutex>
#include <unordered_map>

namespace contents {

constexpr size_t LIMIT = 4 << 20, SMALL = 64 << 10; /* as in profiler/trace/known_values.py */

struct Content {
    c10::weak_intrusive_ptr<c10::StorageImpl> owner;
    at::Storage bytes;
};

inline std::mutex lock;
inline std::unordered_map<c10::StorageImpl *, Content> known;
inline size_t kept_bytes;

/* An ordinary tensor of the host or the card: neither fake nor sparse nor a wrapper, and to be read as it lies. */
inline bool is_plain(const at::Tensor &t) {
    using c10::DispatchKey;
    static const c10::DispatchKeySet others({DispatchKey::Python, DispatchKey::Functionalize, DispatchKey::Conjugate,
                                             DispatchKey::Negative, DispatchKey::ZeroTensor, DispatchKey::FuncTorchBatched,
                                             DispatchKey::FuncTorchGradWrapper, DispatchKey::NestedTensor});
    return t.layout() == at::kStrided && t.has_storage() && (t.is_cpu() || t.is_cuda()) && !t.key_set().has_any(others);
}

inline size_t limit(at::ScalarType type) {
    bool decides = type == at::kBool || (at::isIntegralType(type, false) && c10::elementSize(type) > 1);
    return decides ? LIMIT : SMALL;
}

inline bool is_small(const at::Tensor &t) {
    return t.storage().nbytes() <= limit(t.scalar_type());
}

inline c10::StorageImpl *storage_of(const at::Tensor &t) {
    return t.storage().unsafeGetStorageImpl();
}

inline at::Tensor view(const at::Storage &bytes, const at::Tensor &like) {
    at::Tensor made = at::empty({0}, at::TensorOptions().dtype(like.scalar_type()));
    return made.set_(bytes, like.storage_offset(), like.sizes(), like.strides());
}

/* What `t` holds, as a tensor of the host that shares the kept bytes; undefined where it is not known. */
inline at::Tensor of(const at::Tensor &t) {
    if (!is_plain(t)) return {};
    if (t.is_cpu()) return t;
    if (t.numel() == 0) return at::empty(t.sizes(), at::TensorOptions().dtype(t.scalar_type()));
    std::lock_guard<std::mutex> guard(lock);
    auto found = known.find(storage_of(t));
    if (found == known.end() || found->second.owner.expired()) return {};
    if (found->second.bytes.nbytes() != t.storage().nbytes()) return {}; /* resized since */
    return view(found->second.bytes, t);
}

inline void forget(c10::StorageImpl *storage) {
    std::lock_guard<std::mutex> guard(lock);
    known.erase(storage);
}

inline void forget_all() {
    std::lock_guard<std::mutex> guard(lock);
    known.clear();
}

/* Drop what died, each time that the store has grown to twice what lived. */
inline void sweep(size_t more) {
    constexpr size_t ENTRY = 4096, FIRST = 256 << 20;
    static size_t next = FIRST;
    kept_bytes += more + ENTRY;
    if (kept_bytes < next) return;
    kept_bytes = 0;
    for (auto at = known.begin(); at != known.end();) {
        bool died = at->second.owner.expired();
        kept_bytes += died ? 0 : at->second.bytes.nbytes() + ENTRY;
        at = died ? known.erase(at) : std::next(at);
    }
    next = std::max(FIRST, 2 * kept_bytes);
}

/* From now on `t`, all of its storage, holds `content`. */
inline void know(const at::Tensor &t, const at::Tensor &content) {
    size_t bytes = t.storage().nbytes();
    if (bytes == 0) return;
    at::Storage kept = at::zeros({(int64_t)bytes}, at::kByte).storage();
    view(kept, t).copy_(content);
    std::lock_guard<std::mutex> guard(lock);
    sweep(bytes);
    known.insert_or_assign(storage_of(t), Content{t.storage().getWeakStorageImpl(), kept});
}

/* Whether the elements of `t` are all of its storage. */
inline bool covers(const at::Tensor &t) {
    return t.is_non_overlapping_and_dense() && t.nbytes() == t.storage().nbytes();
}

/* Copy the card's bytes at `from` to the host; false where they are not known. */
inline bool read(void *to, const void *from, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    for (auto &[storage, content] : known) {
        if (content.owner.expired()) continue;
        const char *start = (const char *)storage->data();
        if ((const char *)from < start || (const char *)from + bytes > start + content.bytes.nbytes()) continue;
        memcpy(to, (const char *)content.bytes.data() + ((const char *)from - start), bytes);
        return true;
    }
    return false;
}

}  // namespace contents

#endif
