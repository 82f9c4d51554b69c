// A language model in two files: this program, and model.gguf beside it. A C compiler is all it takes:
//
//     cc -O3 -march=native run.c -o run -lm -lpthread
//
// All that the model knows is in the parameter file; this one says how to use it, and reads from top to bottom. It is
// the twin of run.py, which is shorter: the same commands and the same answers, made for speed. It opens models of the
// families llama, qwen2 and qwen3 in GGUF whose tensors are F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K.
//
// Four ideas make it fast. Weights are repacked when the file is opened, 32 rows side by side, so that an instruction
// works on many results. What is multiplied with quantised (or bfloat16) weights is rounded alike, once for all rows.
// Many tokens are read at once: weights are fetched once for all of them. And threads share the rows. Yet each result
// is summed by one thread in one order, so that scores are the same to the bit however tokens are grouped and with any
// number of threads. With --exact nothing is rounded: all is float32, as in run.py, and slower.
//
// Shapes: T tokens, D model width, H heads, K key-value heads, C head width, F feed-forward width, V vocabulary.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#if defined __linux__ && defined __AMX_BF16__ && defined __AVX512BF16__ && !defined PORTABLE
#define AMX
#include <sys/syscall.h>
#endif
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- 1. Tools: faults, memory, threads. ----
typedef struct { jmp_buf back; char text[512]; } Trap;
static _Thread_local Trap *trap; // where a fault goes; without a trap it ends the program

static _Noreturn void fail(const char *format, ...) { // with something a person can understand and mend
    char text[sizeof trap->text];
    va_list list;
    va_start(list, format), vsnprintf(text, sizeof text, format, list), va_end(list);
    if (trap) memcpy(trap->text, text, sizeof text), longjmp(trap->back, 1);
    fflush(stdout), fprintf(stderr, "run: %s.\n", text), exit(1);
}
#define must(good, ...) do { if (!(good)) fail(__VA_ARGS__); } while (0)

static bool attempt(void (*action)(void *), void *what, char fault[512]) { // false, and the fault in words, if it fails
    Trap here, *outer = trap;
    trap = &here;
    bool good = !setjmp(here.back);
    if (good) action(what);
    else memcpy(fault, here.text, sizeof here.text);
    return trap = outer, good;
}

// Memory comes in chains of blocks that are freed together: a few large ones, so that the system can map it in large
// pages, whose addresses the processor finds sooner.
typedef struct Block { struct Block *next; size_t size, used; } Block;
#ifndef ARENA
#define ARENA (64 << 20)
#endif

static void *room(Block **chain, size_t count, size_t size) { // zeros, aligned to a cache line
    Block *block = *chain;
    size_t bytes, step = 2 << 20, last = block ? block->size : 1 << 14;
    must(!__builtin_mul_overflow(count, size, &bytes) && bytes < SIZE_MAX / 4, "there is not enough memory");
    bytes = (bytes + 127) / 64 * 64;
    if (!block || block->size - block->used < bytes) {
        size_t whole = (LEAST(2 * last, ARENA) > bytes + 64 ? LEAST(2 * last, ARENA) : bytes + 64);
        whole = whole < step ? whole : (whole + step - 1) / step * step;
        must(!posix_memalign((void **)&block, whole < step ? 64 : step, whole), "there is not enough memory");
#ifdef MADV_HUGEPAGE
        if (whole >= step) madvise(block, whole, MADV_HUGEPAGE);
#endif
        *block = (Block){*chain, whole, 64}, *chain = block;
    }
    return block->used += bytes, memset((char *)block + block->used - bytes, 0, bytes);
}

static void release(Block **chain) {
    for (Block *block; (block = *chain); free(block)) *chain = block->next;
}

// Threads that wait for work: of a job's items, each gets a stretch. They spin for a while, then they sleep.
typedef void Job(void *what, int first, int end);
typedef struct { struct Team *team; int64_t place; pthread_t thread; } Worker;
typedef struct Team {
    int count, items;
    Job *job;
    void *what;
    atomic_uint round, busy, asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    Worker workers[256];
} Team;

static void spin(int turn) {
    if (turn % 1024 == 1023) sched_yield(); // somebody else may need this core, even the one we wait for
#ifdef __x86_64__
    _mm_pause();
#endif
}

static void *work(void *argument) {
    Worker *me = argument;
    Team *team = me->team;
    for (unsigned seen = 0;; atomic_fetch_sub(&team->busy, 1)) {
        for (int turn = 0; turn < 20000 && atomic_load(&team->round) == seen; turn++) spin(turn);
        if (atomic_load(&team->round) == seen) {
            pthread_mutex_lock(&team->lock), atomic_fetch_add(&team->asleep, 1);
            while (atomic_load(&team->round) == seen) pthread_cond_wait(&team->wake, &team->lock);
            atomic_fetch_sub(&team->asleep, 1), pthread_mutex_unlock(&team->lock);
        }
        seen++;
        if (!team->job) return NULL;
        int64_t items = team->items, count = team->count;
        team->job(team->what, (int)(items * me->place / count), (int)(items * (me->place + 1) / count));
    }
}

static void begin(Team *team, Job *job, void *what, int items) { // without a job, the threads end
    team->job = job, team->what = what, team->items = items, atomic_store(&team->busy, team->count - 1);
    atomic_fetch_add(&team->round, 1);
    if (!atomic_load(&team->asleep)) return;
    pthread_mutex_lock(&team->lock), pthread_cond_broadcast(&team->wake), pthread_mutex_unlock(&team->lock);
}

static void share(Team *team, int items, Job *job, void *what) {
    bool alone = items <= 1 || team->count == 1;
    if (!alone) begin(team, job, what, items);
    job(what, 0, alone ? items : items / team->count);
    for (int turn = 0; !alone && atomic_load(&team->busy); turn++) spin(turn);
}

static bool has_tiles; // those of AMX, in which bfloat16 is multiplied

static void start(Team *team, int count) {
#ifdef AMX
    has_tiles = !syscall(SYS_arch_prctl, 0x1023, 18); // ARCH_REQ_XCOMP_PERM, XTILEDATA: Linux lends them
#endif
    pthread_mutex_init(&team->lock, NULL), pthread_cond_init(&team->wake, NULL);
    for (team->count = 1; team->count < LEAST(count, 256); team->count++) {
        Worker *worker = &team->workers[team->count];
        worker->team = team, worker->place = team->count;
        if (pthread_create(&worker->thread, NULL, work, worker)) break; // then fewer must do
    }
}

// ---- 2. The file: a GGUF is a header of named values, a list of tensors, and the tensors' bytes. ----
enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, Q4_K = 12, Q6_K = 14, BF16 = 30, TYPES = 31 };
static const struct { const char *name; int weights, bytes; } TYPE[TYPES] = { // of a block
    [F32] = {"F32", 1, 4}, [F16] = {"F16", 1, 2}, [BF16] = {"BF16", 1, 2}, [Q8_0] = {"Q8_0", 32, 34},
    [Q4_0] = {"Q4_0", 32, 18}, [Q4_K] = {"Q4_K", 256, 144}, [Q6_K] = {"Q6_K", 256, 210}};
static const int SIZE[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}; // of a value: 6, 12 float, 7 bool, 8 text, 9 list
enum { INTEGER = 0xc3f, FLOAT = 0x1040, BOOL = 1 << 7, TEXT = 1 << 8, // sets of kinds; of lists, 16 bits higher
       UINT32S = 1 << 20, INT32S = 1 << 21, TEXTS = 1 << 24 };

typedef struct { const char *at; size_t size; } Text; // not ended by a 0
typedef struct { Text key; uint64_t kind, count; const uint8_t *at; } Value; // kind: one bit
typedef struct { Text name; bool used; uint64_t type, dims, rows, width, stride, offset; const uint8_t *at; } Tensor;
typedef struct { // the file, mapped. Nothing that it says of itself is believed before it is checked
    const char *path;
    const uint8_t *bytes;
    size_t size, at;
    Value *values;
    Tensor *tensors;
    uint64_t value_count, tensor_count;
    Block *owned;
    char family[16];
    const uint8_t *const *given; // where the tensors lie, if they are not in the file
} File;
#define sound(file, good, format, ...) \
    must(good, "%.200s cannot be used: no GGUF, damaged or cut short? " format, (file)->path, ##__VA_ARGS__)

static const char *shown(Text text) { // for a message: short, and nothing that a terminal would obey
    static _Thread_local char buffer[64];
    size_t size = LEAST(text.size, 60);
    for (size_t i = 0; i < size; i++) buffer[i] = text.at[i] > 31 && text.at[i] < 127 ? text.at[i] : '?';
    return buffer[size] = 0, buffer;
}

static Text text(const char *at) { return (Text){at, strlen(at)}; }
static bool same(Text a, Text b) { return a.size == b.size && (!a.size || !memcmp(a.at, b.at, a.size)); }
static bool is(Text a, const char *b) { return same(a, text(b)); }

static const uint8_t *take(File *file, uint64_t count) {
    sound(file, count <= file->size - file->at, "it ends too early");
    return file->at += count, file->bytes + file->at - count;
}

static uint64_t number(File *file, int size) { // stored as this machine stores them: the lowest byte first
    uint64_t value = 0;
    return memcpy(&value, take(file, size), size), value;
}

static Text string(File *file) {
    uint64_t size = number(file, 8);
    return (Text){(const char *)take(file, size), size};
}

static Text next_string(const uint8_t **at) { // of a list that was checked
    uint64_t size;
    memcpy(&size, *at, 8);
    return *at += 8 + size, (Text){(const char *)*at - size, size};
}

static Value value(File *file, Text key, uint64_t kind) {
    uint64_t inner = kind == 9 ? number(file, 4) : kind, count = kind == 9 ? number(file, 8) : 1; // no lists of lists
    sound(file, inner < 13 && inner != 9 && count <= file->size, "a value in it is of an unknown kind, or too long");
    Value found = {key, 1ull << inner << (kind == 9 ? 16 : 0), count, file->bytes + file->at};
    for (uint64_t i = 0; inner == 8 && i < count; i++) string(file);
    return take(file, count * SIZE[inner]), found;
}

// The value of a key (of the family's, if it begins with a dot) if it is of these kinds; NULL if it may be missing.
static const Value *get(const File *file, const char *key, uint64_t kinds, bool needed) {
    char whole[80];
    snprintf(whole, sizeof whole, "%s%s", *key == '.' ? file->family : "", key);
    const Value *found = NULL;
    for (const Value *v = file->values; v < file->values + file->value_count; v++)
        if (is(v->key, whole)) found = v;
    must(found ? found->kind & kinds : !needed, "%.200s: the value '%s' is missing, or no such value", file->path, key);
    return found;
}

static int64_t integer(const File *file, const char *key, int64_t otherwise) { // -1: it must be there
    const Value *found = get(file, key, INTEGER, otherwise < 0);
    if (!found) return otherwise;
    int kind = __builtin_ctzll(found->kind), bits = 8 * SIZE[kind];
    uint64_t number = 0;
    memcpy(&number, found->at, bits / 8);
    return number >> 62 || (kind % 2 && number >> (bits - 1)) ? -1 : (int64_t)number; // negative, or as bad as that
}

static double real(const File *file, const char *key, double otherwise) {
    const Value *found = get(file, key, FLOAT, otherwise < 0);
    float narrow;
    if (found && found->kind == 1 << 6) return memcpy(&narrow, found->at, 4), narrow;
    return found ? memcpy(&otherwise, found->at, 8), otherwise : otherwise;
}

static Text words(const File *file, const char *key, const char *otherwise) {
    const Value *found = get(file, key, TEXT, !otherwise);
    const uint8_t *at = found ? found->at : NULL;
    return found ? next_string(&at) : text(otherwise ? otherwise : "");
}

static void parse(File *file) {
    sound(file, file->size >= 4 && !memcmp(take(file, 4), "GGUF", 4), "it does not begin with the letters GGUF");
    uint64_t version = number(file, 4), tensors = number(file, 8), values = number(file, 8), bytes;
    sound(file, version == 2 || version == 3, "it is of version %u; 2 and 3 are known", (unsigned)version);
    bool few = tensors <= file->size / 24 && tensors < 20000 && values <= file->size / 13;
    sound(file, few, "it announces more than it has, or than a model needs");
    file->values = room(&file->owned, values, sizeof(Value));
    file->tensors = room(&file->owned, tensors, sizeof(Tensor)), file->tensor_count = tensors;
    for (Text key; file->value_count < values; file->value_count++)
        key = string(file), file->values[file->value_count] = value(file, key, number(file, 4));
    uint64_t step = integer(file, "general.alignment", 32);
    sound(file, step >= 8 && step <= 1 << 20 && !(step & (step - 1)), "its alignment is %lld", (long long)step);
    for (Tensor *t = file->tensors; t < file->tensors + tensors; t++) {
        t->name = string(file), t->dims = number(file, 4), t->rows = 1;
        sound(file, t->dims - 1 < 4, "tensor %s has %u dimensions", shown(t->name), (unsigned)t->dims);
        bool good = (t->width = number(file, 8)) > 0; // the fastest dimension is the first
        for (uint64_t d = 1; d < t->dims; d++)
            good &= !__builtin_mul_overflow(t->rows, number(file, 8), &t->rows) && t->rows > 0;
        t->type = number(file, 4), t->offset = number(file, 8);
        sound(file, t->type < TYPES && TYPE[t->type].name, "tensor %s is of type %u; F32, F16, BF16, Q8_0, Q4_0, Q4_K "
              "and Q6_K can be used", shown(t->name), (unsigned)t->type);
        good &= t->width % TYPE[t->type].weights == 0 && t->offset % step == 0;
        good &= !__builtin_mul_overflow(t->width / TYPE[t->type].weights, TYPE[t->type].bytes, &t->stride);
        for (Tensor *other = file->tensors; other < t; other++) good &= !same(other->name, t->name);
        good &= !__builtin_mul_overflow(t->stride, t->rows, &bytes);
        sound(file, good, "tensor %s is listed wrongly", shown(t->name));
    }
    uint64_t data = (file->at + step - 1) / step * step;
    for (Tensor *t = file->tensors; t < file->tensors + tensors; t++) {
        uint64_t size = t->stride * t->rows, left = data <= file->size ? file->size - data : 0;
        bool good = file->given || (t->offset <= left && size <= left - t->offset);
        unsigned long long end = data + t->offset + size;
        sound(file, good, "tensor %s should end at byte %llu", shown(t->name), end);
        t->at = file->given ? file->given[t - file->tensors] : file->bytes + data + t->offset;
    }
}

static void open_file(File *file, const char *path) {
    struct stat about = {0};
    int handle = open(file->path = path, O_RDONLY);
    must(handle >= 0 && !fstat(handle, &about), "cannot open %.200s: %s", path, strerror(errno));
    void *bytes = about.st_size ? mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE, handle, 0) : NULL;
    int fault = S_ISDIR(about.st_mode) ? EISDIR : errno;
    close(handle);
    must(bytes != MAP_FAILED, "cannot open %.200s: %s", path, strerror(fault));
    file->bytes = bytes, file->size = about.st_size;
    parse(file);
}

// ---- 3. Numbers: vectors of W, as wide as the machine's own; most lines need only the compiler's +, * and &. ----
#pragma GCC diagnostic ignored "-Wpsabi" // such vectors never leave this file
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#ifdef PORTABLE // leaves out the machine's own instructions
enum { W = 4, SEVERAL = 4 };
#elif defined __AVX512F__
#define AVX512
enum { W = 16, SEVERAL = 8 }; // so many tokens are multiplied at once, as there are registers
#elif defined __AVX2__ && defined __F16C__
#define AVX2
enum { W = 8, SEVERAL = 4 };
#elif defined __ARM_NEON && defined __aarch64__
#define NEON
#include <arm_neon.h>
enum { W = 4, SEVERAL = 8 };
#else
enum { W = 4, SEVERAL = 4 };
#endif
#if defined AVX512 || defined AVX2
#define COMPUTED(x) __asm__("" : "+v"(x)) // here and now: compilers would do it once more for each use
#else
#define COMPUTED(x) (void)(x)
#endif
#if defined AVX2 && !defined __AVXVNNI__
#define STEPS ROLLED
enum { SHORTS = true }; // products of bytes are added up in 16 bits first
#else
#define STEPS UNROLL
enum { SHORTS = false };
#endif
typedef float F __attribute__((vector_size(4 * W), may_alias));
typedef int32_t I __attribute__((vector_size(4 * W), may_alias));
typedef uint16_t H __attribute__((vector_size(2 * W), may_alias));
typedef int8_t B __attribute__((vector_size(W), may_alias));
typedef F AnyF __attribute__((aligned(4))); // the same anywhere in memory
typedef I AnyI __attribute__((aligned(4)));
typedef H AnyH __attribute__((aligned(2)));
typedef B AnyB __attribute__((aligned(1)));
typedef uint32_t U __attribute__((aligned(1), may_alias));

INLINE F all(float x) { return x - (F){0}; }
INLINE F chosen(I which, F a, F b) { return (F)(((I)a & which) | ((I)b & ~which)); } // a where a bit is set, else b

INLINE F widened(const void *halves) { // float16 -> float32
#if defined AVX512
    return (F)_mm512_cvtph_ps(_mm256_loadu_si256(halves));
#elif defined AVX2
    return (F)_mm256_cvtph_ps(_mm_loadu_si128(halves));
#elif defined NEON
    return (F)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
#else
    I h = __builtin_convertvector(*(const AnyH *)halves, I);
    F scaled = (F)((h & 0x7fff) << 13) * 0x1p112f; // the exponent counts from elsewhere
    return (F)((I)scaled | (h & 0x8000) << 16 | (((h & 0x7c00) == 0x7c00) & 0x7f800000)); // infinity remains one
#endif
}

INLINE H narrowed(F x) { // float32 -> float16; what is too large for one becomes the largest
    x = chosen(x > 65504, all(65504), chosen(x < -65504, all(-65504), x));
#if defined AVX512
    return (H)_mm512_cvtps_ph((__m512)x, 0);
#elif defined AVX2
    return (H)_mm256_cvtps_ph((__m256)x, 0);
#elif defined NEON
    return (H)vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x));
#else
    I bits = (I)(x * 0x1p-112f) & 0x7fffffff, odd = x != x;
    bits = (((bits & ~odd) + 0xfff + (bits >> 13 & 1)) >> 13) | (odd & 0x7e00); // the nearest, of two the even one
    return __builtin_convertvector(bits | ((I)x >> 16 & 0x8000), H);
#endif
}

INLINE F fused(F sum, F a, F b) { // sum + a·b; said so, as compilers fuse one loop and leave the next, for speed
#if defined AVX512
    return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined AVX2 && defined __FMA__
    return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined NEON
    return (F)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#elif defined __FP_FAST_FMAF
    for (int i = 0; i < W; i++) sum[i] = __builtin_fmaf(a[i], b[i], sum[i]);
    return sum;
#else
    return sum + a * b;
#endif
}

// + two products of bfloat16 in each lane: the upper, then the lower. If there is an instruction for both, the second
// call makes both; else b is kept in float32.
#if defined AVX512 && defined __AVX512BF16__
typedef uint16_t Input;
INLINE F add_pairs(F sum, I a, const Input *b, bool upper) {
    __m512bh both = (__m512bh)_mm512_set1_epi32(*(const U *)b);
    return upper ? sum : (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, both);
#else
typedef float Input;
INLINE F add_pairs(F sum, I a, const Input *b, bool upper) {
    return upper ? fused(sum, (F)(a & (int)0xffff0000), all(b[1])) : fused(sum, (F)(a << 16), all(b[0]));
#endif
}

INLINE I joined(I sum) { // the two sums of 16 bits in each lane
#ifdef AVX2
    sum = (I)_mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1));
#endif
    return sum;
}

// + four products in each lane, of unsigned bytes with signed ones. In SHORTS a byte of Q8_0 counts from 128 on, and
// those of Q4_0 are added up in two sums of 16 bits, which have room for eight calls.
INLINE I add_fours(const int type, I sum, I a, uint32_t b) {
    (void)type;
#if defined AVX512 && defined __AVX512VNNI__
    return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32(b));
#elif defined AVX2 && defined __AVXVNNI__
    return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, _mm256_set1_epi32(b));
#elif defined AVX2
    __m256i w = (__m256i)(a ^ (type == Q8_0 ? (int)0x80808080 : 0)), x = _mm256_set1_epi32(b);
    if (type == Q8_0) x = _mm256_sign_epi8(x, w), w = _mm256_abs_epi8(w); // so two products fit into 16 bits
    x = _mm256_maddubs_epi16(w, x);
    if (type == Q8_0) sum += joined((I)x);
    else sum = (I)_mm256_add_epi16((__m256i)sum, x);
    COMPUTED(sum);
    return sum;
#elif defined NEON && defined __ARM_FEATURE_MATMUL_INT8
    return (I)vusdotq_s32((int32x4_t)sum, (uint8x16_t)a, vreinterpretq_s8_u32(vdupq_n_u32(b)));
#else
    UNROLL for (int i = 0; i < 32; i += 8) sum += (a >> i & 255) * (int8_t)(b >> i);
    return sum;
#endif
}

INLINE F exponential(F x) { // off by 2e-7 of the result; stays within float32; what is no number remains none
    F odd = x - x, rest, n, p;
    x = chosen(x < -87, all(-87), chosen(x > 88, all(88), x));
    n = x * 1.44269504f + 0x1.8p23f; // e^x = 2^n e^rest; to add this number rounds to whole ones
    I power = ((I)n - 0x4b400000) << 23;
    n -= 0x1.8p23f;
    rest = x - n * 0.693359375f + n * 2.12194440e-4f; // log 2 in two parts
    p = ((1.9875691500e-4f * rest + 1.3981999507e-3f) * rest + 8.3334519073e-3f) * rest + 4.1665795894e-2f;
    p = (p * rest + 1.6666665459e-1f) * rest + 5.0000001201e-1f;
    return (F)((I)(p * rest * rest + rest + 1) + power) + odd;
}

INLINE int folded(I x, const bool sum) { // all lanes into one: their sum, or the largest
#ifdef AVX512
    return sum ? _mm512_reduce_add_epi32((__m512i)x) : _mm512_reduce_max_epi32((__m512i)x);
#else
    for (int i = 1; i < W; i++) x[0] = sum ? x[0] + x[i] : x[i] > x[0] ? x[i] : x[0];
    return x[0];
#endif
}

INLINE float highest(F x) {
    float most = x[0];
    for (int i = 1; i < W; i++) most = x[i] > most ? x[i] : most;
    return most;
}

static float half(const uint8_t *at) {
    H halves = {at[0] | at[1] << 8};
    return widened(&halves)[0];
}

static void unpack(int type, const uint8_t *at, int count, float *out) { // weights as they are stored -> float32
    for (int i = 0, size = TYPE[type].weights; i < count; i += size, out += size, at += TYPE[type].bytes) {
        float scale = size > 1 ? half(at + (type == Q6_K ? 208 : 0)) : type == F16 ? half(at) : 0;
        if (type == F32) memcpy(out, at, 4);
        if (type == F16) *out = scale;
        if (type == BF16) memcpy(out, (uint8_t[]){0, 0, at[0], at[1]}, 4);
        if (type == Q8_0) for (int j = 0; j < 32; j++) out[j] = scale * (int8_t)at[2 + j];
        if (type == Q4_0) for (int j = 0; j < 32; j++) out[j] = scale * ((at[2 + j % 16] >> j / 16 * 4 & 15) - 8);
        if (type == Q4_K) for (int j = 0; j < 256; j++) { // eight groups, with a scale and a least value of six bits
            const uint8_t *six = at + 4, n = j / 32, code = at[16 + j / 64 * 32 + j % 32] >> n % 2 * 4 & 15;
            int factor = n < 4 ? six[n] & 63 : (six[n + 4] & 15) | six[n - 4] >> 6 << 4;
            int least = n < 4 ? six[n + 4] & 63 : six[n + 4] >> 4 | six[n] >> 6 << 4;
            out[j] = scale * factor * code - half(at + 2) * least;
        }
        if (type == Q6_K) for (int j = 0; j < 256; j++) { // four bits here, two there, and a scale for each 16
            int low = at[j / 128 * 64 + j % 64] >> j / 64 % 2 * 4 & 15;
            int code = low | (at[128 + j / 128 * 32 + j % 32] >> j / 32 % 4 * 2 & 3) << 4;
            out[j] = scale * (int8_t)at[192 + j / 16] * (code - 32);
        }
    }
}

// ---- 4. Matrices: tiles of 32 rows and 32 columns, whose weights lie side by side in the order of their use. ----
// For each column, 32 float32 or float16; for two columns, 32 pairs of bfloat16. Quantised: 32 float16 scales, then for
// 4 columns 32 times 4 bytes: of Q8_0 plus 128, since the instruction wants one side unsigned; of Q4_0 with columns 0-3
// in the lower and 16-19 in the upper half of each byte. Q4_K and Q6_K become Q8_0 (rounded again, by at most 1/254 of
// the largest of 32). A band of tiles holds 32 rows; zeros fill up rows and columns.
typedef struct { int type, rows, columns; size_t tile, band; uint8_t *at; } Matrix; // bytes of a tile, of a band
typedef struct { Matrix matrix; const Tensor *parts[3]; } Packing; // one below the other
typedef struct { float scale; int32_t start; int8_t codes[32]; } Rounded; // 32 numbers in 8 bits each; where sums start

INLINE Rounded rounded(const float *x, int type) { // for products with weights of this type
    I most = {0}, sum = {0}; // floats are ordered as whole numbers are, and what is no number is above all
    for (int i = 0; i < 32; i += W) {
        I bits = *(const AnyI *)&x[i] & 0x7fffffff;
        most = (bits & (bits > most)) | (most & ~(bits > most));
    }
    float size = ((F)(I){folded(most, false)})[0], inverse = size > 1e-30f ? 127 / size : 0;
    Rounded block = {size < INFINITY ? size / 127 : NAN, 0, {0}};
    if (!(size < INFINITY)) return block;
    for (int i = 0; i < 32; i += W) {
        I codes = (I)(*(const AnyF *)&x[i] * inverse + 0x1.8p23f) - 0x4b400000;
        *(AnyB *)&block.codes[i] = __builtin_convertvector(codes, B), sum += codes;
    }
    block.start = folded(sum, true) * (type == Q4_0 ? -8 : SHORTS ? 0 : -128); // as weights are kept too large
    return block;
}

static void pack_rows(void *what, int first, int end) { // bands first to end
    Packing *job = what;
    Matrix *m = &job->matrix;
    for (int row = 32 * first; row < LEAST(32 * end, m->rows); row++) {
        const Tensor **part = job->parts, *t;
        uint64_t inner = row, r = row % 32;
        while (inner >= (t = *part)->rows) inner -= t->rows, part++;
        int weights = TYPE[t->type].weights, bytes = TYPE[t->type].bytes, same = m->type == (int)t->type;
        const uint8_t *from = t->at + inner * t->stride;
        float x[256];
        for (int k = 0, n; k < (int)t->width; k += n, from += n / weights * bytes) {
            n = LEAST((int)t->width - k, 256);
            if (!same || m->type == F32) unpack(t->type, from, n, x);
            for (int i = 0; i < n; i += 32) {
                uint8_t *to = m->at + row / 32 * m->band + (k + i) / 32 * m->tile, block[34];
                for (int j = 0; j < LEAST(n - i, 32); j++) {
                    if (m->type == F32) memcpy(to + (j * 32 + r) * 4, &x[i + j], 4);
                    if (m->type == F16) memcpy(to + (j * 32 + r) * 2, from + 2 * (i + j), 2);
                    if (m->type == BF16) memcpy(to + (j / 2 * 64 + r * 2 + j % 2) * 2, from + 2 * (i + j), 2);
                }
                if (m->type != Q8_0 && m->type != Q4_0) continue;
                if (same) memcpy(block, from + i / 32 * bytes, bytes);
                else {
                    Rounded again = rounded(&x[i], Q8_0);
                    H scale = narrowed(all(again.scale));
                    memcpy(block, &scale, 2), memcpy(block + 2, again.codes, 32);
                }
                memcpy(to + r * 2, block, 2);
                for (int j = 0; j < TYPE[m->type].bytes - 2; j += 4) {
                    uint32_t four = *(U *)&block[2 + j] ^ (m->type == Q8_0 ? 0x80808080 : 0);
                    memcpy(to + 64 + (j / 4 * 32 + r) * 4, &four, 4);
                }
            }
        }
    }
}

static Matrix pack(Team *team, Block **owned, bool exact, int count, const Tensor *const *parts) {
    Packing job = {.matrix.columns = (int)(parts[0]->width + 31) / 32 * 32};
    Matrix *m = &job.matrix;
    for (int i = 0; i < count; i++) {
        int type = parts[i]->type == Q4_K || parts[i]->type == Q6_K ? Q8_0 : (int)parts[i]->type;
        m->type = exact || (i && type != m->type) ? F32 : type; // different ones meet in float32
        m->rows += (int)parts[i]->rows, job.parts[i] = parts[i], exact |= i && m->type == F32;
    }
    m->tile = m->type == F32 ? 4096 : m->type == Q8_0 ? 64 + 1024 : m->type == Q4_0 ? 64 + 512 : 2048;
    m->band = m->columns / 32 * m->tile;
    m->at = room(owned, (m->rows + 31) / 32, m->band);
    share(team, (m->rows + 31) / 32, pack_rows, &job);
    return job.matrix;
}

typedef struct { // out [T, rows] = x [T, columns] times the matrix (or more by that)
    const Matrix *m;
    const float *x;
    uint8_t *in; // x as the type of matrix wants it
    float *out;
    size_t x_step, in_step, out_step; // from token to token
    int T;
    bool more;
} Product;

static void round_inputs(void *what, int t, int end) { // of tokens t to end
    for (const Product *p = what; t < end; t++) {
        const float *x = p->x + t * p->x_step;
        uint8_t *to = p->in + t * p->in_step;
        if (p->m->type == BF16) for (int k = 0; k < p->m->columns; k += W) {
            F some = *(const AnyF *)&x[k];
            I odd = some != some, bits = (I)some & ~odd; // no number remains none
            bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16 | (odd & 0x7fc0);
            if (sizeof(Input) == 2) *(AnyH *)&to[2 * k] = __builtin_convertvector(bits, H);
            else *(AnyI *)&to[4 * k] = bits << 16;
        } else for (int k = 0; k < p->m->columns; k += 32) ((Rounded *)to)[k / 32] = rounded(&x[k], p->m->type);
    }
}

INLINE void put(float *out, F sum, int rows, bool more) { // of W rows; of the last, only those that there are
    if (rows >= W && more) sum += *(AnyF *)out;
    if (rows >= W) *(AnyF *)out = sum;
    else for (int i = 0; i < rows; i++) out[i] = sum[i] + (more ? out[i] : 0);
}

// R vectors of rows of a band for N tokens: sizes known to the compiler, so that the sums [R, N] can stay in registers.
INLINE void tile(const int type, const int R, const int N, const Product *p, int band, int first, int token) {
#define EACH UNROLL for (int n = 0; n < N; n++) UNROLL for (int r = 0; r < R; r++)
#define SUM sums[r * N + n]
#define WHOLE whole[r * N + n]
#define WEIGHTS(offset, bytes) (at + first * (bytes) + ((offset) + r * W * (bytes)))
#define INPUT(kind) ((const kind *)(in + n * p->in_step))
    const Matrix *m = p->m;
    const uint8_t *at = m->at + band * m->band, *in = p->in + token * p->in_step;
    const int last = type == Q8_0 ? 8 : 4, halves = type == Q4_0 ? 2 : 1;
    F sums[16] = {{0}};
    for (int k = 0; k < m->columns; k += 32, at += m->tile) {
        if (!first && !token) for (size_t i = 0; i < m->tile; i += 64) __builtin_prefetch(at + 3072 + i);
        if (type == F32 || type == F16) ROLLED for (int j = 0; j < 32; j++) {
            F w[16];
            UNROLL for (int r = 0; r < R; r++) {
                if (type == F32) w[r] = *(AnyF *)WEIGHTS(j * 128, 4);
                else w[r] = widened(WEIGHTS(j * 64, 2));
                COMPUTED(w[r]);
            }
            EACH SUM = fused(SUM, w[r], all(INPUT(float)[k + j]));
        }
        if (type == BF16) ROLLED for (int j = 0; j < 16; j++) UNROLL for (int upper = 1; upper >= 0; upper--)
            EACH SUM = add_pairs(SUM, *(AnyI *)WEIGHTS(j * 128, 4), &INPUT(Input)[k + 2 * j], upper);
        if (type != Q8_0 && type != Q4_0) continue;
        I whole[16];
        EACH WHOLE = (I){0} + (SHORTS ? 0 : INPUT(Rounded)[k / 32].start);
        UNROLL for (int half = 0; half < halves; half++) STEPS for (int j = 0; j < last; j++) EACH {
            I w = *(AnyI *)WEIGHTS(64 + j * 128, 4) >> 4 * half & (halves == 2 ? 0x0f0f0f0f : -1);
            WHOLE = add_fours(type, WHOLE, w, *(const U *)&INPUT(Rounded)[k / 32].codes[4 * j + 16 * half]);
        }
        if (SHORTS && type == Q4_0) EACH WHOLE = joined(WHOLE) + INPUT(Rounded)[k / 32].start;
        EACH SUM = fused(SUM, widened(WEIGHTS(0, 2)) * INPUT(Rounded)[k / 32].scale, __builtin_convertvector(WHOLE, F));
    }
    int row = 32 * band + first;
    EACH put(p->out + (token + n) * p->out_step + row + r * W, SUM, m->rows - row - r * W, p->more);
}

// A band for N tokens at a time, from token t on, as long as there are so many. Returns the token that is next.
INLINE int tiles(const int type, const int N, const Product *p, int band, int t) {
    const int R = N > 2 ? 2 : LEAST(32 / W, 2 * SEVERAL / N), end = p->T - (p->T - t) % N;
    for (int first = 0; first < 32; first += R * W)
        for (int i = t; i < end; i += N) tile(type, R, N, p, band, first, i);
    return end;
}

#ifdef AMX
// Tiles are registers of 16 rows of 64 bytes: 0 to 3 hold sums [16 tokens, 16 rows], 4 and 5 inputs [16 tokens, 32
// columns], 6 and 7 weights [16 pairs of columns, 16 rows]. An addition takes 8,192 products.
#define TILE_ZERO(n) __asm__ volatile("tilezero %tmm" #n)
#define TILE_LOAD(n, at, step) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n : : "r"(at), "r"((size_t)(step)) : "memory")
#define TILE_ADD(n, a, b) __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #n)
#define TILE_STORE(n, at) __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" : : "r"(at), "r"(128ul) : "memory")

static void shape_tiles(int N) {
    struct { uint8_t palette, none[15]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {1, {0}, {0}, {0}};
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = i < 6 ? N : 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(shape));
}

static void bands_in_tiles(const Product *p, int band, int end) { // 32 tokens at a time, then 16, then the rest
    const Matrix *m = p->m;
    int shaped = 0;
    for (; band < end; band++) for (int t = 0, N; t < p->T; t += N) {
        _Alignas(64) F sums[32][2];
        const uint8_t *at = m->at + band * m->band, *in = p->in + t * p->in_step, *more = in + 16 * p->in_step;
        N = p->T - t >= 32 ? 32 : LEAST(p->T - t, 16);
        if (LEAST(N, 16) != shaped) shape_tiles(shaped = LEAST(N, 16));
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
        for (int k = 0; k < m->columns; k += 32, at += m->tile, in += 64, more += 64) {
            if (!t) for (size_t i = 0; i < m->tile; i += 64) __builtin_prefetch(at + 3072 + i);
            TILE_LOAD(4, in, p->in_step);
            TILE_LOAD(6, at, 128);
            TILE_ADD(0, 4, 6);
            TILE_LOAD(7, at + 64, 128);
            TILE_ADD(1, 4, 7);
            if (N <= 16) continue;
            TILE_LOAD(5, more, p->in_step);
            TILE_ADD(2, 5, 6);
            TILE_ADD(3, 5, 7);
        }
        TILE_STORE(0, sums);
        TILE_STORE(1, &sums[0][1]);
        if (N > 16) { TILE_STORE(2, sums[16]); TILE_STORE(3, &sums[16][1]); }
        for (int n = 0, row = 32 * band; n < N; n++) for (int r = 0; r < 2; r++)
            put(p->out + (t + n) * p->out_step + row + r * W, sums[n][r], m->rows - row - r * W, p->more);
    }
    __asm__ volatile("tilerelease");
}
#else
static void bands_in_tiles(const Product *p, int band, int end) { (void)p, (void)band, (void)end; }
#endif

INLINE void bands(const int type, const Product *p, int band, int end) {
    const int most = SEVERAL < 6 && (type == F32 || type == F16) ? 6 : SEVERAL; // the others use registers to unpack
    for (; band < end; band++) {
        int t = tiles(type, most, p, band, 0);
        if (most > 4) t = tiles(type, 4, p, band, t);
        tiles(type, 1, p, band, tiles(type, 2, p, band, t));
    }
}

#define BANDS(type) /* a function for each, as compilers lose their way in long ones */ \
    static __attribute__((noinline)) void bands_##type(const Product *p, int at, int end) { bands(type, p, at, end); }
BANDS(F32) BANDS(F16) BANDS(BF16) BANDS(Q8_0) BANDS(Q4_0)

static void multiply_rows(void *what, int first, int end) { // of bands
    const Product *p = what;
    int type = p->m->type;
    (type == F32 ? bands_F32 : type == F16 ? bands_F16 : type == Q8_0 ? bands_Q8_0 : type == Q4_0 ? bands_Q4_0
     : has_tiles ? bands_in_tiles : bands_BF16)(p, first, end);
}

static void multiply(Team *team, const Matrix *m, int T, const float *x, size_t x_step, uint8_t *in, float *out,
                     size_t out_step, bool more) {
    Product p = {m, x, (uint8_t *)x, out, x_step, 4 * x_step, out_step, T, more};
    if (m->type != F32 && m->type != F16) {
        p.in = in, p.in_step = m->columns / 32 * (m->type == BF16 ? 32 * sizeof(Input) : sizeof(Rounded));
        share(team, T, round_inputs, &p);
    }
    share(team, (m->rows + 31) / 32, multiply_rows, &p);
}

// ---- 5. Text and tokens: byte-level BPE. Text is cut into words, whose bytes are merged pair by pair. ----
// A vocabulary is written in visible characters (GPT-2's custom): Ġ is the space, Ċ the end of a line.
#define DAMAGED "the tokenizer in the file is damaged: its tokens, merges and kinds do not fit together"
enum { LETTER = 1, NUMBER = 2, SPACE = 3 };
// The classes of all characters, for files that do not tell (Unicode 16): runs, each written as digits of five bits
// (0 to O), and a last sign (] to |) of the other three bits of its length and two bits of its class.
static const char UNICODE[] =
    "1]y2^u1c1nc3fb3f1^u3^u1]ecn]e_me]o]2k]3k]1If`1h1bice]e@]i]l]i^e]=j]AgdIlb5e8c4g5a5g2a1n`f]<g]e1cfcf1ng^e1de]3j3a"
    ";e1_1k1n4e1]f`g_2j`e1]e_e2c3ec4l]k1d5f7^6j_e2^ec1f`1n]1l`6k]e1d1eaj`1nf^r^ed6k3a1i1n^g1d6k]e2^2f`1n1]e1_6k]e3bj`"
    "1n]e1t]7g2^k1c1q2^6k]e3^1f`2m]s]e`6k]e3ci`1o1k`6k^e1deag]sg`2o]k`8i3`1p1c5l]f1`k1]1n4c5l]f1]1gd1p4i3c2p1`6e2ci>_"
    "5g2`e1nbj`h_e_fcg`1i1`e]1nb;g]2<e1`2s1l1d;l]2=h^2eu3fa9g_o4e1a2g1b2f1b2f1b6h4_e`e_3t1d1t<i^4f]>j4b1n?l1r4^2k1]6i"
    "5_3tce;a5k2]1g1n5]3j1af1n5h3^4h3`1qg1n4h^7l5]h]j]f_Hj7d1Gi]e_1g_1i_1ia1g_1w3avau5cu1dmgrae1nb1l<^e`e^1f]e_ibe]e]"
    "e]h]1g^hai`e]6ofq2Jb7p9b2r2>b3r4=`Libh_k`m^=l1d;l9ce1Idu`fm3]1mci^of`:l`g];f]Bh^p1^3l5d1l3d1n3bt]1s3d1n4c1s17dIG"
    "l7d2FAl7d5j^11i_1l1n8i1d3k^8j1n4c1e^<k^>k]g]h]2k1ar1^6h1b6f3`1t2^j_e]f]1n3h1^2k3]3l`5k3`e1r^i]1f1n5k2cg]l`1p`2k_"
    "e_6f]e_f^i^e]3h^1gcg1`;f]1jb>g1a1t1COlHOd23j]1f]@l4]1=g2^?k4]1h>`Ak2]1nc3fb3f1_?f3dOlc5t1]7m2]nN`;l]3s3l1q2hmlr4"
    "j1^3k]5l]5sCl1tGk]2Lk]t2k^s4k7m3gq2j1m]3k8]7hnf7te1c4ld1t1d3in]3i4ol]3hbq1d7ec2lt2lt3e1d:sOfr4h1`3n12j3t5ga=i1n3"
    "k1_p3_2f5b2i3o3l_6i3^3r]f^1f`5i3d3l1t_4h1c1n`e^5h_1f_5l1bh1_1ne]e`3s5h2_=fc5k2]1ta6j^e2^kbi3bFi2^ha1na:e2`f]1eEt"
    "5k5]h4`5l2`1h1t3d5g1aec7t3i2_1p`Mh>`7l3s6e1ce]e1b9t6e1de]e3`e1^4lce2ae1_5j2_e2^17l1t5k2]e1c3t^3l=b6e2ae1]1t5f1bl"
    "17t2g1c9j;t1l2q5_3Ol=t1d;>e1c45l2]1<Mk6It2;l1r^9l1t3l1d5l1dh1`2o21iIt7l2s=]9k]e8^9k]e3`2<Ch@:`21t3Gd7t;dCt2He]3e"
    "]3k]3e]3k]3e]3k]3e]3k]3e]1f6n6OdOl5dOlc1e1re18]3j2^5h`1s1J]3lKt4e1MsLk1m5d8hci1r32_7o]o]?q]JmMl21d1q:L_41t3000eG"
    "OOc";
typedef struct { const char *name; bool modern, whole; size_t digits; } Style; // how text is cut, by the pattern's name
static const Style STYLES[] = {{"qwen2", true, false, 1}, {"deepseek-r1-qwen", true, false, 1},
                               {"llama-bpe", true, true, 3}, {"gpt-2", false, false, -1}, {"smollm", false, false, 1}};
typedef struct { uint64_t pair; uint32_t rank, token; } Merge; // pair: two tokens + 1
typedef struct { int *at; size_t count, room; } Tokens;
typedef struct {
    Text *tokens; // [V], as they are written
    const uint8_t *kinds; // kinds: 4 bytes for each: 1 text, 3 control, 4 added
    int count, begin, start, end, stops[3], byte[256]; // tokens by their meaning, -1 if there is none; byte: of each
    int *slots; // hash table of tokens + 1
    Merge *merges; // hash table
    uint64_t slot_count, merge_count;
    const Style *style;
    uint8_t *classes; // of each character
} Tokenizer;

static void push(Tokens *list, int token) {
    if (list->count == list->room) list->at = realloc(list->at, (list->room = 2 * list->room + 64) * sizeof(int));
    must(list->at, "there is not enough memory");
    list->at[list->count++] = token;
}

// Reads a character of UTF-8: returns its bytes; 0 if there must be more; -k if k bytes are no character.
static int character(const char *text, size_t size, uint32_t *code) {
    const uint8_t *at = (const uint8_t *)text, first = *at;
    int length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if ((first >= 0x80 && first < 0xc2) || first > 0xf4) return -1;
    *code = length == 1 ? first : first & 0x7f >> length;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == size) return 0;
        int low = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80; // not longer than it must be,
        int high = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf; // nor half a pair, nor too high
        if (at[i] < low || at[i] > high) return -i;
        *code = *code << 6 | (at[i] & 63);
    }
    return length;
}

static int spell(uint32_t code, char *out) { // the other way
    int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, code >>= 6) out[i] = 0x80 | (code & 63);
    return *out = length == 1 ? code : (0xf00 >> length & 0xff) | code, length;
}

static uint32_t letter(int byte) { // of the visible alphabet
    return byte <= 32 ? 256 + byte : byte >= 127 && byte <= 160 ? 162 + byte : byte == 173 ? 323 : byte;
}

static uint64_t mixed(uint64_t x) { return x = (x ^ x >> 32) * 0x9e3779b97f4a7c15, x ^ x >> 29; }

// The slot of the token whose text is a and then b, or the free one where it would belong.
static int *slot(const Tokenizer *k, Text a, Text b) {
    uint64_t hash = a.size + b.size;
    for (size_t i = 0; i < a.size; i++) hash = mixed(hash ^ (uint8_t)a.at[i]);
    for (size_t i = 0; i < b.size; i++) hash = mixed(hash ^ (uint8_t)b.at[i]);
    for (int tries = 0;; hash++) {
        int *found = &k->slots[hash & (k->slot_count - 1)];
        Text other = *found ? k->tokens[*found - 1] : a;
        if (!*found || (other.size == a.size + b.size && same((Text){other.at, a.size}, a) &&
                        same((Text){other.at + a.size, b.size}, b))) return found;
        must(tries++ < 1000, DAMAGED); // somebody made them fall on each other
    }
}

static int token(const Tokenizer *k, const char *name) { return *slot(k, text(name), text("")) - 1; }

static Merge *merge_of(const Tokenizer *k, uint64_t left, uint64_t right) {
    uint64_t pair = (left + 1) << 32 | (right + 1), hash = mixed(pair);
    for (int tries = 0;; hash++) {
        Merge *found = &k->merges[hash & (k->merge_count - 1)];
        if (!found->pair || found->pair == pair) return found;
        must(tries++ < 1000, DAMAGED);
    }
}

static void open_classes(Tokenizer *k, const File *file) { // of characters
    static const char *const names[] = {"twofold.unicode.letters", "twofold.unicode.numbers", "twofold.unicode.spaces"};
    if (!get(file, *names, UINT32S, false)) {
        uint32_t code = 0, count = 0;
        for (const char *c = UNICODE; *c; c++) {
            count = *c < 80 ? count * 32 + *c - 48 : count * 8 + ((*c - 93) & 7) + 1;
            if (*c >= 80) for (; count; count--) k->classes[code++] = (*c - 93) >> 3;
        }
        return;
    }
    for (int i = 0; i < 3; i++) { // first, last, first, last ...
        const Value *table = get(file, names[i], UINT32S, true);
        const U *points = (const U *)table->at;
        bool good = table->count > 1 && table->count % 2 == 0 && points[table->count - 1] < 0x110000;
        for (uint64_t j = 1; j < table->count; j++) good &= points[j - 1] <= points[j];
        must(good, "the table %s is damaged", names[i]);
        for (uint64_t j = 0; j < table->count; j += 2)
            memset(&k->classes[points[j]], LETTER + i, points[j + 1] - points[j] + 1);
    }
}

static void open_tokenizer(Tokenizer *k, const File *file, Block **owned) {
    Text model = words(file, "tokenizer.ggml.model", NULL), cut = words(file, "tokenizer.ggml.pre", "default");
    for (size_t i = 0; i < COUNT(STYLES); i++) if (is(model, "gpt2") && is(cut, STYLES[i].name)) k->style = &STYLES[i];
    must(k->style, "the tokenizer is of the kind %s; byte-level BPE with the pattern qwen2, llama-bpe, gpt-2 or smollm "
         "can be used", shown(is(model, "gpt2") ? cut : model));
    const Value *tokens = get(file, "tokenizer.ggml.tokens", TEXTS, true);
    const Value *kinds = get(file, "tokenizer.ggml.token_type", INT32S, true);
    const Value *merges = get(file, "tokenizer.ggml.merges", TEXTS, true);
    must(tokens->count == kinds->count && tokens->count < 1 << 28 && merges->count < 1 << 28, DAMAGED);
    for (k->slot_count = 1024; k->slot_count < 2 * tokens->count;) k->slot_count *= 2;
    for (k->merge_count = 1024; k->merge_count < 2 * merges->count;) k->merge_count *= 2;
    k->count = (int)tokens->count, k->kinds = kinds->at, k->tokens = room(owned, k->count, sizeof(Text));
    k->slots = room(owned, k->slot_count, sizeof(int)), k->merges = room(owned, k->merge_count, sizeof(Merge));
    k->classes = room(owned, 0x110000, 1), open_classes(k, file);
    const uint8_t *at = tokens->at;
    for (int i = 0; i < k->count; i++) k->tokens[i] = next_string(&at), *slot(k, k->tokens[i], text("")) = i + 1;
    at = merges->at;
    for (uint32_t i = 0; i < merges->count; i++) {
        Text left = next_string(&at), right;
        const char *space = memchr(left.at, ' ', left.size);
        must(space, DAMAGED);
        right = (Text){space + 1, left.at + left.size - space - 1}, left.size = space - left.at;
        uint64_t a = *slot(k, left, text("")), b = *slot(k, right, text("")), both = *slot(k, left, right);
        must(both, DAMAGED);
        if (a && b) *merge_of(k, a - 1, b - 1) = (Merge){a << 32 | b, i, both - 1}; // others are never met
    }
    bool whole = true;
    for (int i = 0; i < 256; i++) {
        char name[5] = {0};
        spell(letter(i), name), whole &= (k->byte[i] = token(k, name)) >= 0;
    }
    const Value *begins = get(file, "tokenizer.ggml.add_bos_token", BOOL, false);
    int64_t begin = integer(file, "tokenizer.ggml.bos_token_id", 0);
    int64_t stop = integer(file, "tokenizer.ggml.eos_token_id", -1);
    k->begin = (begins ? *begins->at : k->style->whole) ? (int)begin : -1, k->start = token(k, "<|im_start|>");
    k->end = k->stops[1] = token(k, "<|im_end|>"), k->stops[0] = (int)stop, k->stops[2] = token(k, "<|endoftext|>");
    must(whole && begin >= 0 && begin < k->count && stop >= 0 && stop < k->count, DAMAGED);
}

// The length of the first word of a text [n], n > 0: what the pattern of the style matches there.
static size_t word(const Tokenizer *k, const uint32_t *c, size_t n) {
#define CLASS(i) ((i) < n ? k->classes[c[i]] : 9)
#define LINE(i) ((i) < n && (c[i] == '\r' || c[i] == '\n'))
    bool modern = k->style->modern;
    size_t i = 0, lines = 0;
    if (c[0] == '\'') { // the ends of it's, I've, they'll
        uint32_t next[2] = {0};
        for (i = 0; i < 2 && i + 1 < n; i++) {
            uint32_t high = c[i + 1] >= 'A' && c[i + 1] <= 'Z' ? c[i + 1] + 32 : c[i + 1] == 0x17f ? 's' : c[i + 1];
            next[i] = modern ? high : c[i + 1];
        }
        if (next[0] && next[0] < 128 && strchr("stmd", next[0])) return 2;
        if ((next[0] == 'l' && next[1] == 'l') || ((next[0] == 'r' || next[0] == 'v') && next[1] == 'e')) return 3;
    }
    i = modern ? CLASS(0) != LETTER && CLASS(0) != NUMBER && !LINE(0) : c[0] == ' ';
    if (CLASS(i) == LETTER) { // a word, with the space or sign before it
        while (CLASS(i) == LETTER) i++;
        return i;
    }
    i = k->style->digits > 3 && c[0] == ' ';
    if (CLASS(i) == NUMBER) {
        for (size_t first = i; CLASS(i) == NUMBER && i - first < k->style->digits;) i++;
        return i;
    }
    i = c[0] == ' ';
    if (CLASS(i) == 0) { // signs, and the ends of lines after them
        while (CLASS(i) == 0) i++;
        while (modern && LINE(i)) i++;
        return i;
    }
    for (i = 0; CLASS(i) == SPACE; i++) if (LINE(i)) lines = i + 1;
    if (modern && lines) return lines;
    bool last = i == n || (!modern && k->style->digits == 1 && CLASS(i) == NUMBER); // where digits were cut out before
    return i > 1 && !last ? i - 1 : i; // the last space goes with the word
}

// A word whose bytes are merged, the pair learned first before others. Words can be very long, so what could be merged
// waits in a heap: its rank << 32 | its place, the smallest on top.
typedef struct { uint64_t *heap; int waiting, n, *part, *before, *after; } Word;

static void consider(const Tokenizer *k, Word *w, int i) { // the part at i with the one after it
    const Merge *m = i >= 0 && w->after[i] < w->n ? merge_of(k, w->part[i], w->part[w->after[i]]) : NULL;
    if (!m || !m->pair) return;
    uint64_t item = (uint64_t)m->rank << 32 | i;
    int j = w->waiting++;
    for (; j > 0 && w->heap[(j - 1) / 2] > item; j = (j - 1) / 2) w->heap[j] = w->heap[(j - 1) / 2];
    w->heap[j] = item;
}

static uint64_t next_merge(Word *w) {
    uint64_t top = w->heap[0], last = w->heap[--w->waiting];
    int j = 0;
    for (int child; (child = 2 * j + 1) < w->waiting; j = child) {
        child += child + 1 < w->waiting && w->heap[child + 1] < w->heap[child];
        if (w->heap[child] >= last) break;
        w->heap[j] = w->heap[child];
    }
    return w->heap[j] = last, top;
}

static void merge(const Tokenizer *k, const char *bytes, int n, Tokens *list) {
    Block *mine = NULL;
    uint64_t few[5 * 64];
    Word w = {n <= 64 ? few : room(&mine, n, 40), 0, n, NULL, NULL, NULL};
    w.part = (int *)(w.heap + 3 * n), w.before = w.part + n, w.after = w.before + n;
    for (int i = 0; i < n; i++) w.part[i] = k->byte[(uint8_t)bytes[i]], w.before[i] = i - 1, w.after[i] = i + 1;
    for (int i = 0; i < n; i++) consider(k, &w, i);
    while (w.waiting) {
        uint64_t item = next_merge(&w);
        int i = (int)(uint32_t)item, j = w.after[i];
        const Merge *m = w.part[i] >= 0 && j < n ? merge_of(k, w.part[i], w.part[j]) : NULL;
        if (!m || !m->pair || m->rank != item >> 32) continue; // one was merged with another in the meantime
        w.part[i] = m->token, w.part[j] = -1, w.after[i] = w.after[j];
        if (w.after[i] < n) w.before[w.after[i]] = i;
        consider(k, &w, w.before[i]), consider(k, &w, i);
    }
    for (int i = 0; i < n; i = w.after[i]) push(list, w.part[i]);
    release(&mine);
}

// Appends the tokens of a text. Special tokens spelled out in it stay plain text; what is no UTF-8 becomes U+FFFD.
static void encode(const Tokenizer *k, Text from, Tokens *list) {
    must(from.size < 1 << 28, "so long a text cannot be read");
    Block *mine = NULL;
    uint32_t *codes = room(&mine, from.size + 1, 4);
    char *bytes = room(&mine, from.size + 1, 9), *name = bytes + 3 * from.size + 4;
    size_t n = 0;
    for (size_t i = 0; i < from.size; n++) {
        int length = character(from.at + i, from.size - i, &codes[n]);
        if (length <= 0) codes[n] = 0xfffd, length = length ? -length : (int)(from.size - i);
        i += length;
    }
    for (size_t i = 0, end; i < n; i = end) {
        int size = 0, name_size = 0;
        for (end = i + word(k, codes + i, n - i); i < end; i++) size += spell(codes[i], bytes + size);
        for (int j = 0; j < size; j++) name_size += spell(letter((uint8_t)bytes[j]), name + name_size);
        int known = k->style->whole ? *slot(k, (Text){name, name_size}, text("")) : 0;
        if (known) push(list, known - 1);
        else merge(k, bytes, size, list);
    }
    release(&mine);
}

// ---- 6. The model: a token's vector passes through the layers; in each, attention looks back once. ----
// Keys and values lie in pages of 16 tokens: of each layer the keys [K, P, 16], then the values [K, 16, P]; P is C in
// whole 16s. They are float16, or float32 if the weights are F32 or F16. A sequence is a list of pages, and several can
// share them. Other rows are filled up to 32s, with zeros.
typedef struct { const int *tokens; int count, start, rows; char *const *pages; } Part; // tokens more of a sequence
typedef struct { float *norm, *q_norm, *k_norm, *ffn_norm, *bias; Matrix qkv, out, gate_up, down; } Layer;
typedef struct Model {
    File file;
    Tokenizer tokenizer;
    Team team;
    Block *owned, *scratch;
    int D, H, K, C, F, V, P, layers, context;
    char fault[512];
    bool neighbours, exact; // positions turn pairs of neighbours, not of halves; pages hold float32
    float epsilon, *frequencies, *norm; // frequencies [C/2]
    const Tensor *embedding;
    Layer *layer;
    Matrix output;
    // What is being computed: T tokens (there is room for so many), the layer and the norm at hand, and for each token
    // its vector, the same normed, q with k and v, attention's result, the two halves of the feed-forward and their
    // product, cosines and sines, what is multiplied next in rounded form, its part, its position. Tokens that follow
    // each other attend in groups; where each begins, and last the end.
    int T, room, groups, *place, *group;
    const Layer *now;
    const float *weight;
    float *x, *h, *qkv, *mixed, *gate_up, *gated, *turns;
    uint8_t *in;
    const Part **part;
} Model;

static int up(int n) { return (n + 31) / 32 * 32; }

static const Tensor *find(Model *m, bool needed, int64_t rows, int64_t width, const char *format, ...) {
    char name[80];
    va_list list;
    va_start(list, format), vsnprintf(name, sizeof name, format, list), va_end(list);
    for (Tensor *t = m->file.tensors; t < m->file.tensors + m->file.tensor_count; t++) {
        if (!is(t->name, name)) continue;
        if (t->rows == (uint64_t)rows && t->width == (uint64_t)width) return t->used = true, t;
        needed = true;
    }
    must(!needed, "%.200s: there must be %s, %lld x %lld", m->file.path, name, (long long)rows, (long long)width);
    return NULL;
}

static float *vector(Model *m, const Tensor *t) { // no tensor, no vector
    float *out = t ? room(&m->owned, up(t->width), 4) : NULL;
    if (t) unpack(t->type, t->at, t->width, out);
    return out;
}

static void load_layer(Model *m, int i, bool exact, bool needs_bias, bool needs_norms) {
#define FIND(needed, rows, width, name) find(m, needed, rows, width, "blk.%d." name, i)
    int64_t D = m->D, F = m->F, Q = (int64_t)m->H * m->C, KV = (int64_t)m->K * m->C;
    Layer *l = &m->layer[i];
    const Tensor *qkv[] = {FIND(true, Q, D, "attn_q.weight"), FIND(true, KV, D, "attn_k.weight"),
                           FIND(true, KV, D, "attn_v.weight")};
    const Tensor *bias[] = {FIND(needs_bias, 1, Q, "attn_q.bias"), FIND(needs_bias, 1, KV, "attn_k.bias"),
                            FIND(needs_bias, 1, KV, "attn_v.bias")};
    const Tensor *gate_up[] = {FIND(true, F, D, "ffn_gate.weight"), FIND(true, F, D, "ffn_up.weight")};
    const Tensor *out = FIND(true, D, Q, "attn_output.weight"), *down = FIND(true, D, F, "ffn_down.weight");
    l->norm = vector(m, FIND(true, 1, D, "attn_norm.weight"));
    l->ffn_norm = vector(m, FIND(true, 1, D, "ffn_norm.weight"));
    l->q_norm = vector(m, FIND(needs_norms, 1, m->C, "attn_q_norm.weight"));
    l->k_norm = vector(m, FIND(needs_norms, 1, m->C, "attn_k_norm.weight"));
    l->bias = room(&m->owned, Q + 2 * KV, 4);
    for (int j = 0; j < 3; j++)
        if (bias[j]) unpack(bias[j]->type, bias[j]->at, bias[j]->width, l->bias + (j > 0) * Q + (j > 1) * KV);
    l->qkv = pack(&m->team, &m->owned, exact, 3, qkv), l->gate_up = pack(&m->team, &m->owned, exact, 2, gate_up);
    l->out = pack(&m->team, &m->owned, exact, 1, &out), l->down = pack(&m->team, &m->owned, exact, 1, &down);
}

static void load(Model *m, bool exact) {
    const File *f = &m->file;
    Text family = words(f, "general.architecture", NULL), scaling;
    bool known = (m->neighbours = is(family, "llama")) || is(family, "qwen2") || is(family, "qwen3");
    must(known, "%.200s holds a model of the family %s; llama, qwen2 and qwen3 can be used", f->path, shown(family));
    memcpy(m->file.family, family.at, family.size);
    if (f->given) m->tokenizer.count = (int)integer(f, ".vocab_size", -1);
    int64_t D = integer(f, ".embedding_length", -1), F = integer(f, ".feed_forward_length", -1);
    int64_t H = integer(f, ".attention.head_count", -1), K = integer(f, ".attention.head_count_kv", H);
    int64_t C = integer(f, ".attention.key_length", H > 0 && D > 0 ? D / H : 0), L = integer(f, ".block_count", -1);
    int64_t context = integer(f, ".context_length", -1), window = integer(f, ".attention.sliding_window", context);
    int64_t turned = integer(f, ".rope.dimension_count", C);
    double epsilon = real(f, ".attention.layer_norm_rms_epsilon", -1), theta = real(f, ".rope.freq_base", 10000);
    bool linear = is(scaling = words(f, ".rope.scaling.type", "none"), "linear"), plain = linear || is(scaling, "none");
    double slower = linear ? real(f, ".rope.scaling.factor", -1) : 1;
    must(plain, "%.200s scales positions in a way not known here: %s", f->path, shown(scaling));
    bool possible = D > 0 && D < 1 << 24 && F > 0 && F < 1 << 24 && K > 0 && K <= H && H < 1 << 16 && H % K == 0;
    possible = possible && C > 0 && C <= 512 && C % 2 == 0 && L > 0 && (uint64_t)L <= f->tensor_count;
    possible = possible && context > 3 && window > 3;
    possible = possible && epsilon > 0 && epsilon < 1 && theta > 1 && theta < 1e12 && slower > 0 && slower < 1e6;
    possible = possible && turned == C && integer(f, ".attention.value_length", C) == C;
    must(possible, "%.200s describes no model that can be computed", f->path);
    m->D = D, m->F = F, m->H = H, m->K = K, m->C = C, m->V = m->tokenizer.count, m->P = (C + 15) / 16 * 16;
    m->layers = L, m->epsilon = epsilon, m->context = LEAST(LEAST(context, window), 1 << 28);
    m->layer = room(&m->owned, L, sizeof(Layer));
    for (int i = 0; i < L; i++) load_layer(m, i, exact, is(family, "qwen2"), is(family, "qwen3"));
    m->exact = m->layer->qkv.type == F32 || m->layer->qkv.type == F16;
    m->embedding = find(m, true, m->V, D, "token_embd.weight");
    m->norm = vector(m, find(m, true, 1, D, "output_norm.weight"));
    const Tensor *output = find(m, false, m->V, D, "output.weight");
    m->output = pack(&m->team, &m->owned, exact, 1, output ? &output : &m->embedding);
    float *factors = vector(m, find(m, false, 1, C / 2, "rope_freqs.weight")); // of Llama 3, for long contexts
    m->frequencies = room(&m->owned, C / 2, 4);
    for (int i = 0; i < C / 2; i++)
        m->frequencies[i] = 1 / powf(theta, 2 * i / (float)C) / (float)slower / (factors ? factors[i] : 1);
    for (const Tensor *t = f->tensors; t < f->tensors + f->tensor_count; t++) // what we know nothing of may matter
        must(t->used, "%.200s holds %s, which is not known here", f->path, shown(t->name));
}

static void normed(const float *x, const float *weight, int n, float epsilon, float *out) { // RMSNorm
    F squares[16 / W] = {{0}};
    float sum = 0;
    int i = 0;
    for (; i + 16 <= n; i += 16)
        for (int v = 0; v < 16; v += W) squares[v / W] += *(const AnyF *)&x[i + v] * *(const AnyF *)&x[i + v];
    for (; i < n; i++) sum += x[i] * x[i];
    for (i = 0; i < 16; i++) sum += ((float *)squares)[i];
    sum = 1 / sqrtf(sum / n + epsilon);
    for (i = 0; i < n; i++) out[i] = x[i] * sum * weight[i];
}

static void norm_tokens(void *what, int t, int end) {
    for (Model *m = what; t < end; t++)
        normed(m->x + (size_t)t * up(m->D), m->weight, m->D, m->epsilon, m->h + (size_t)t * up(m->D));
}

static void turn(const Model *m, float *x, const float *cosine) { // a head [C]: each pair turns by its angle
    for (int i = 0, half = m->C / 2; i < half; i++) {
        float *a = m->neighbours ? &x[2 * i] : &x[i], *b = m->neighbours ? a + 1 : a + half, first = *a;
        *a = first * cosine[i] - *b * cosine[half + i], *b = *b * cosine[i] + first * cosine[half + i];
    }
}

static size_t layer_size(const Model *m) { return (size_t)32 * m->K * m->P * (m->exact ? 4 : 2); } // bytes in a page

static void place_tokens(void *what, int t, int end) { // biases; norms and positions of q and k; k and v to their page
    for (Model *m = what; t < end; t++) {
        const Layer *l = m->now;
        int C = m->C, heads = m->H, K = m->K, P = m->P, slot = m->place[t] % 16;
        float *q = m->qkv + (size_t)t * (heads + 2 * K) * C;
        char *page = m->part[t]->pages[m->place[t] / 16] + (l - m->layer) * layer_size(m);
        for (int i = 0; i < (heads + 2 * K) * C; i++) q[i] += l->bias[i];
        for (int head = 0; head < heads + K; head++) {
            const float *weight = head < heads ? l->q_norm : l->k_norm;
            if (weight) normed(q + head * C, weight, C, m->epsilon, q + head * C);
            turn(m, q + head * C, m->turns + (size_t)t * C);
        }
        for (int i = 0; i < 2 * K * P; i += 16) {
            float x[16] = {0};
            uint16_t halves[16];
            memcpy(x, q + (heads + i / P) * C + i % P, 4 * LEAST(C - i % P, 16));
            for (int j = 0; j < 16; j += W) *(AnyH *)&halves[j] = narrowed(*(AnyF *)&x[j]);
            int at = (i % (K * P) / P * 16 + slot) * P + i % P + K * P * 16; // of values; keys lie across
            if (i >= K * P) m->exact ? memcpy(page + 4 * at, x, 64) : memcpy(page + 2 * at, halves, 32);
            else for (int j = 0; j < 16; j++) {
                if (m->exact) ((float *)page)[(i + j) * 16 + slot] = x[j];
                else ((uint16_t *)page)[(i + j) * 16 + slot] = halves[j];
            }
        }
    }
}

// Attention of some heads of some tokens that follow each other, N in all, to what stands before each. Softmax goes by
// 128 positions: when a higher score is met, what was mixed before shrinks. So a token's result is the same to the bit
// whatever attends beside it.
INLINE void attend_group(const int heads, const int tokens, const bool exact, const Model *m, int t, int head, int kv) {
#define KEPT(values, i) (exact ? *(const AnyF *)((values) + 4 * (i)) : widened((values) + 2 * (i)))
    enum { MOST = 512 / W + 1, ALL = 8, V = 16 / W, AHEAD = 8 }; // one more: powers of two meet in the cache
    const int N = heads * tokens, C = m->C, P = m->P, last = m->place[t] + tokens - 1, size = exact ? 4 : 2;
    const size_t at = (m->now - m->layer) * layer_size(m) + (size_t)kv * 16 * P * size;
    static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    F q[ALL][MOST], mixed[ALL][MOST], totals[ALL][V] = {{{0}}}, scores[ALL][AHEAD * V];
    float most[ALL], scale = 1 / sqrtf(C);
    for (int i = 0; i < N; i++) {
        const float *from = m->qkv + ((size_t)(t + i / heads) * (m->H + 2 * m->K) + head + i % heads) * C;
        for (int c = 0; c < P; c++) ((float *)q[i])[c] = c < C ? from[c] * scale : 0, ((float *)mixed[i])[c] = 0;
        most[i] = -INFINITY;
    }
    for (int first = 0; first * 16 <= last; first += AHEAD) {
        const int count = LEAST(last / 16 + 1 - first, AHEAD) * V;
        for (int v = 0; v < count; v++) {
            const char *keys = m->part[t]->pages[first + v / V] + at + v % V * W * size;
            F even[ALL] = {{0}}, odd[ALL] = {{0}}; // two sums, which need not wait for each other
            for (int c = 0; c < P; c += 2) {
                F key = KEPT(keys, c * 16), next = KEPT(keys, c * 16 + 16);
                UNROLL for (int i = 0; i < N; i++) even[i] = fused(even[i], key, all(((float *)q[i])[c]));
                UNROLL for (int i = 0; i < N; i++) odd[i] = fused(odd[i], next, all(((float *)q[i])[c + 1]));
            }
            UNROLL for (int i = 0; i < N; i++) {
                I seen = *(const AnyI *)&lanes[v % V * W] <= m->place[t] + i / heads - 16 * (first + v / V);
                scores[i][v] = chosen(seen, even[i] + odd[i], all(-INFINITY));
            }
        }
        for (int i = 0; i < N; i++) {
            F tops = scores[i][0];
            for (int v = 1; v < count; v++) tops = chosen(scores[i][v] > tops, scores[i][v], tops);
            float top = highest(tops), shrink = 1;
            if (!(top <= most[i])) shrink = first ? exponential(all(most[i] - top))[0] : 0, most[i] = top;
            for (int v = 0; v < V; v++) totals[i][v] *= shrink;
            for (int c = 0; c < P / W; c++) mixed[i][c] *= shrink;
            for (int v = 0; v < count; v++) {
                I seen = scores[i][v] != all(-INFINITY);
                scores[i][v] = chosen(seen, exponential(scores[i][v] - most[i]), all(0));
                totals[i][v % V] += scores[i][v];
            }
        }
        for (int c = 0; c < P; c += W) {
            F sums[ALL];
            for (int i = 0; i < N; i++) sums[i] = mixed[i][c / W];
            for (int j = 0; j < LEAST(count * W, last + 1 - 16 * first); j++) {
                const char *values = m->part[t]->pages[first + j / 16] + at + (size_t)m->K * 16 * P * size;
                F value = KEPT(values, j % 16 * P + c);
                UNROLL for (int i = 0; i < N; i++) sums[i] = fused(sums[i], value, all(((float *)scores[i])[j]));
            }
            for (int i = 0; i < N; i++) mixed[i][c / W] = sums[i];
        }
    }
    for (int i = 0; i < N; i++) {
        float sum = 0, *out = m->mixed + (size_t)(t + i / heads) * up(m->H * C) + (head + i % heads) * C;
        for (int j = 0; j < 16; j++) sum += ((float *)totals[i])[j];
        for (int c = 0; c < C; c++) out[c] = ((float *)mixed[i])[c] * (1 / sum);
    }
}

static void attend(void *what, int item, int end) { // items: groups with the first keys' heads, with the next ...
    for (const Model *m = what; item < end; item++) {
        int first = m->group[item % m->groups], tokens = m->group[item % m->groups + 1] - first;
        int kv = item / m->groups, each = m->H / m->K;
        for (int head = kv * each, n; head < (kv + 1) * each; head += n)
            for (int t = first, more; (n = LEAST((kv + 1) * each - head, 4)), t < first + tokens; t += more) {
#define ATTEND(a, b) (m->exact ? attend_group(a, b, true, m, t, head, kv) : attend_group(a, b, false, m, t, head, kv))
                n = n == 3 ? 2 : n, more = first + tokens - t >= 8 / n ? 8 / n : 1;
                if (n == 4) more == 2 ? ATTEND(4, 2) : ATTEND(4, 1);
                if (n == 2) more == 4 ? ATTEND(2, 4) : ATTEND(2, 1);
                if (n == 1) more == 8 ? ATTEND(1, 8) : ATTEND(1, 1);
            }
    }
}

static void gate_tokens(void *what, int t, int end) { // gate · sigmoid(gate) · up
    for (Model *m = what; t < end; t++)
        for (int i = 0; i < m->F; i += W) {
            const float *gate = m->gate_up + (size_t)t * 2 * m->F + i;
            F g = *(const AnyF *)gate, product = g / (1 + exponential(-g)) * *(const AnyF *)(gate + m->F);
            put(&m->gated[(size_t)t * up(m->F) + i], product, m->F - i, false);
        }
}

static void reserve(Model *m, int T) { // room to read so many tokens at once
    if (T <= m->room) return;
    int D = up(m->D), F = up(m->F), heads = up(m->H * m->C), widest = D > F ? D : F;
    release(&m->scratch), m->room = 0;
    m->x = room(&m->scratch, T, 4 * D), m->h = room(&m->scratch, T, 4 * D), m->gated = room(&m->scratch, T, 4 * F);
    m->qkv = room(&m->scratch, T, 4 * (m->H + 2 * m->K) * m->C), m->mixed = room(&m->scratch, T, 4 * heads);
    m->gate_up = room(&m->scratch, T + 1, 8 * m->F + 64), m->turns = room(&m->scratch, T, 4 * m->C);
    m->in = room(&m->scratch, T, 4 * (widest > heads ? widest : heads));
    m->part = room(&m->scratch, T, sizeof *m->part), m->place = room(&m->scratch, T, sizeof(int));
    m->group = room(&m->scratch, T + 1, sizeof(int)), m->room = T;
}

// Reads tokens of some sequences at once: scores [sum of rows, V] of what comes after the last `rows` tokens of each.
static void read_parts(Model *m, const Part *parts, int count, float *scores) {
    Team *team = &m->team;
    int T = 0, D = up(m->D), rows = 0;
    for (int i = 0; i < count; i++) T += parts[i].count;
    reserve(m, m->T = T), T = m->groups = 0;
    for (const Part *part = parts; part < parts + count; part++)
        for (int i = 0; i < part->count; i++, T++) {
            const Tensor *t = m->embedding;
            must(part->tokens[i] >= 0 && part->tokens[i] < m->V, "there is no token %d", part->tokens[i]);
            unpack(t->type, t->at + part->tokens[i] * t->stride, m->D, m->x + (size_t)T * D);
            m->part[T] = part, m->place[T] = part->start + i;
            if (i % 16 == 0) m->group[m->groups++] = T;
            for (int j = 0, half = m->C / 2; j < half; j++) {
                float angle = (float)m->place[T] * m->frequencies[j], *turns = m->turns + (size_t)T * m->C + j;
                turns[0] = cosf(angle), turns[half] = sinf(angle);
            }
        }
    m->group[m->groups] = T;
    for (m->now = m->layer; m->now < m->layer + m->layers; m->now++) {
        const Layer *l = m->now;
        m->weight = l->norm, share(team, T, norm_tokens, m);
        multiply(team, &l->qkv, T, m->h, D, m->in, m->qkv, l->qkv.rows, false);
        share(team, T, place_tokens, m), share(team, m->groups * m->K, attend, m);
        multiply(team, &l->out, T, m->mixed, up(m->H * m->C), m->in, m->x, D, true);
        m->weight = l->ffn_norm, share(team, T, norm_tokens, m);
        multiply(team, &l->gate_up, T, m->h, D, m->in, m->gate_up, 2 * m->F, false);
        share(team, T, gate_tokens, m);
        multiply(team, &l->down, T, m->gated, up(m->F), m->in, m->x, D, true);
    }
    for (int i = 0, end = 0; i < count; i++) // only what is asked for goes on
        for (int j = (end += parts[i].count) - parts[i].rows; j < end; j++)
            memmove(m->x + (size_t)rows++ * D, m->x + (size_t)j * D, 4 * D);
    m->weight = m->norm, share(team, rows, norm_tokens, m);
    multiply(team, &m->output, rows, m->h, D, m->in, scores, m->V, false);
}

// The library: a model in memory, and what can be asked of it. A fault is given back in words.
typedef struct { Model *m; const char *at; size_t size; int threads; bool exact; // to open or to encode
                 const Part *parts; int count; float *scores; Tokens list; } Request; // to read; what came of encoding

static void do_open(void *what) {
    Request *r = what;
    start(&r->m->team, r->threads), open_file(&r->m->file, r->at);
    open_tokenizer(&r->m->tokenizer, &r->m->file, &r->m->owned), load(r->m, r->exact);
}

static void do_take(void *what) { // the first time, or again
    Request *r = what;
    File *f = &r->m->file;
    if (r->threads) start(&r->m->team, r->threads), parse(f);
    release(&r->m->owned), load(r->m, r->exact);
}

static void do_read(void *what) {
    Request *r = what;
    read_parts(r->m, r->parts, r->count, r->scores);
}

static void do_encode(void *what) {
    Request *r = what;
    encode(&r->m->tokenizer, (Text){r->at, r->size}, &r->list);
}

void twofold_close(Model *m) {
    if (m->team.count > 1) begin(&m->team, NULL, NULL, 0);
    for (int i = 1; i < m->team.count; i++) pthread_join(m->team.workers[i].thread, NULL);
    if (m->file.bytes && !m->file.given) munmap((void *)m->file.bytes, m->file.size);
    release(&m->scratch), release(&m->owned), release(&m->file.owned), free(m);
}

Model *twofold_open(const char *path, int threads, bool exact, char fault[512]) { // NULL, if there was a fault
    Model *m = calloc(1, sizeof *m);
    if (m && attempt(do_open, &(Request){.m = m, .at = path, .threads = threads, .exact = exact}, fault)) return m;
    return m ? twofold_close(m) : (void)strcpy(fault, "there is not enough memory"), NULL;
}

// A model whose weights another program holds, tensor by tensor in the order of a header, which is a GGUF without them.
// What is computed with is a copy; when the weights have changed, it must be taken again.
Model *twofold_take(const uint8_t *header, size_t size, const uint8_t *const *given, int threads, char fault[512]) {
    Model *m = calloc(1, sizeof *m);
    if (m) m->file = (File){.path = "the model", .bytes = header, .size = size, .given = given};
    if (m && attempt(do_take, &(Request){.m = m, .threads = threads}, fault)) return m;
    return m ? twofold_close(m) : (void)strcpy(fault, "there is not enough memory"), NULL;
}

const char *twofold_take_again(Model *m) { // NULL, or the fault
    return attempt(do_take, &(Request){.m = m}, m->fault) ? NULL : m->fault;
}

size_t twofold_page_size(const Model *m) { return m->layers * layer_size(m); } // in bytes

const char *twofold_read(Model *m, const Part *parts, int count, float *scores) { // NULL, or the fault
    Request request = {.m = m, .parts = parts, .count = count, .scores = scores};
    return attempt(do_read, &request, m->fault) ? NULL : m->fault;
}

// The tokens of a text: as many as there is room for. How many there are, or -1 after a fault.
int twofold_encode(Model *m, const char *at, size_t size, int *tokens, size_t room) {
    Request request = {.m = m, .at = at, .size = size};
    bool good = attempt(do_encode, &request, m->fault);
    if (good && request.list.count) memcpy(tokens, request.list.at, LEAST(request.list.count, room) * sizeof(int));
    return free(request.list.at), good ? (int)request.list.count : -1;
}

#ifndef TWOFOLD_LIBRARY
// ---- 7. Choosing: scores -> temperature -> top-k -> top-p -> min-p -> one token. ----
typedef struct {
    const char *command, *text, *model, *system;
    double temperature, top_p, min_p;
    int64_t top_k, max_tokens, seed, threads;
    bool selftest, exact, help;
} Options;
typedef struct { float score; int token; double chance; } Candidate;

static int better_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : x->token - y->token;
}

static double uniform(uint64_t *random) { // SplitMix64: other numbers than run.py's, so a seed gives another text
    uint64_t z = *random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9, z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int best_of(const float *scores, int count) {
    int best = 0;
    for (int i = 1; i < count; i++) best = scores[i] > scores[best] ? i : best;
    return best;
}

static int choose(const float *scores, int count, const Options *o, uint64_t *random, Candidate *all) {
    int best = best_of(scores, count), left = o->top_k && o->top_k < count ? (int)o->top_k : count;
    double sum = 0, kept = 0, before = 0;
    if (o->temperature == 0) return best;
    for (int i = 0; i < count; i++)
        all[i] = (Candidate){scores[i], i, exp(((double)scores[i] - scores[best]) / o->temperature)};
    if (o->top_k || o->top_p < 1) qsort(all, count, sizeof *all, better_first);
    for (int i = 0; i < left; i++) sum += all[i].chance;
    for (int i = 0; i < left; i++) { // `before`: what the better ones make up
        double chance = all[i].chance;
        if (before >= o->top_p * sum || chance < o->min_p) all[i].chance = 0;
        before += chance, kept += all[i].chance;
    }
    kept *= uniform(random);
    for (int i = 0; i < left; i++)
        if (all[i].chance > 0 && (best = all[i].token, kept -= all[i].chance) < 0) break;
    return best;
}

// ---- 8. Using it: going on with a text, conversation, scoring, self-test. ----
enum { ENDED = -1, NOTHING = -2 };
typedef struct { Block *owned; char **pages; int count, length; } Memory; // to forget is to set `length` back
typedef struct { Model *m; const Options *options; uint64_t random; float *scores; Candidate *all; } Session;
typedef struct { char held[4]; int count; } Printer; // holds back the bytes of a character that is not whole yet
static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal) { interrupted = signal; }

static void flush(void) {
    if (!fflush(stdout) && !ferror(stdout)) return;
    fprintf(stderr, "run: cannot go on: %s.\n", strerror(errno)), _exit(1);
}

static void show(Printer *p, int byte) { // a byte more; -1: the end
    uint32_t code;
    if (byte >= 0) p->held[p->count++] = (char)byte;
    for (int n; p->count && ((n = character(p->held, p->count, &code)) || byte < 0);) {
        int used = n > 0 ? n : n ? -n : p->count;
        n > 0 ? fwrite(p->held, 1, n, stdout) : fwrite("\xef\xbf\xbd", 1, 3, stdout);
        memmove(p->held, p->held + used, p->count -= used);
    }
}

static void show_token(Printer *p, const Tokenizer *k, int token) {
    Text name = k->tokens[token];
    uint32_t code, kind = k->kinds[4 * token];
    for (size_t i = 0; i < name.size && kind != 3;) { // control tokens are not shown, added ones as they are written
        int length = kind == 1 ? character(name.at + i, name.size - i, &code) : 0, byte = '?';
        for (int b = 0; length > 0 && b < 256; b++) byte = letter(b) == code ? b : byte;
        show(p, length ? byte : (uint8_t)name.at[i]), i += length > 0 ? length : 1;
    }
}

static void forget(Memory *memory) { release(&memory->owned), free(memory->pages), *memory = (Memory){0}; }

// Reads tokens after those in memory, and keeps the scores after the last `rows` of them. False: Ctrl-C came first.
static bool read_on(Session *s, Memory *memory, const int *tokens, int count, int rows) {
    const Model *m = s->m;
    for (int n; count > 0; count -= n, tokens += n, memory->length += n) {
        n = LEAST(count, 256);
        for (; memory->count * 16 < memory->length + n; memory->count++) {
            memory->pages = realloc(memory->pages, (memory->count + 1) * sizeof *memory->pages);
            must(memory->pages, "there is not enough memory");
            memory->pages[memory->count] = room(&memory->owned, twofold_page_size(m), 1);
        }
        if (interrupted) return false;
        read_parts(s->m, &(Part){tokens, n, memory->length, n == count ? rows : 0, memory->pages}, 1, s->scores);
    }
    bool good = true;
    for (size_t i = 0; i < (size_t)rows * m->V; i++) good &= isfinite(s->scores[i]) != 0;
    must(good, "the model computes no proper numbers: its weights are damaged");
    return true;
}

// Reads tokens, then prints an answer as it comes, until the model, a limit or Ctrl-C ends it. Returns the token that
// was printed but not yet read.
static int say(Session *s, const Tokens *unread, Memory *memory) {
    const Tokenizer *k = &s->m->tokenizer;
    int count = (int)unread->count, left = s->m->context - memory->length - count, token = NOTHING;
    must(left > 0, "%d more tokens do not fit: the model looks back on %d in all", count, s->m->context);
    int limit = s->options->max_tokens ? (int)LEAST(s->options->max_tokens, left) : left;
    char remark[64] = "";
    Printer printer = {0};
    for (int n = 1; token != ENDED && n <= limit; n++) {
        if (!read_on(s, memory, n == 1 ? unread->at : &token, n == 1 ? count : 1, 1)) break;
        token = choose(s->scores, s->m->V, s->options, &s->random, s->all);
        if (token == k->stops[0] || token == k->stops[1] || token == k->stops[2]) token = ENDED;
        else show_token(&printer, k, token), flush();
        if (n == limit && token != ENDED)
            snprintf(remark, sizeof remark, limit == left ? "the context is full" : "stopped after %d tokens", limit);
    }
    show(&printer, -1), putchar('\n'), flush();
    if (interrupted || *remark) fprintf(stderr, "[%s]\n", interrupted ? "stopped" : remark);
    return token;
}

static Text read_all(const char *name) { // - is standard input
    size_t room = 1 << 16, size = 0;
    char *data = malloc(room);
    FILE *file = strcmp(name, "-") ? fopen(name, "rb") : stdin;
    while (file && data && (size += fread(data + size, 1, room - size, file)) == room) data = realloc(data, room *= 2);
    must(file && data && !ferror(file), "cannot read '%.200s' as UTF-8 text: %s", name, strerror(errno));
    return (Text){data, size};
}

static Tokens beginning(const Session *s) { // what stands before every text, if anything is wanted there
    Tokens list = {0};
    if (s->m->tokenizer.begin >= 0) push(&list, s->m->tokenizer.begin);
    return list;
}

static void generate(Session *s) {
    Text prompt = strcmp(s->options->text, "-") ? text(s->options->text) : read_all("-");
    Tokens tokens = beginning(s);
    Printer printer = {0};
    encode(&s->m->tokenizer, prompt, &tokens);
    must(tokens.count, "this model needs a text to begin with");
    for (size_t i = 0; i < prompt.size; i++) show(&printer, (uint8_t)prompt.at[i]);
    show(&printer, -1), flush(), say(s, &tokens, &(Memory){0});
}

typedef struct { Session *s; const Tokens *unread; Memory *memory; int token; } Answer;

static void answer(void *what) {
    Answer *a = what;
    a->token = say(a->s, a->unread, a->memory);
}

// Appends a message in ChatML; without a text, the opening of an answer.
static void message(const Tokenizer *k, const char *role, const Text *said, Tokens *list) {
    must(k->start >= 0 && k->end >= 0, "this model cannot chat; it can generate");
    Block *mine = NULL;
    size_t size = strlen(role), more = said ? said->size : 0;
    char *whole = room(&mine, size + more + 1, 1);
    memcpy(whole, role, size), whole[size] = '\n';
    if (said) memcpy(whole + size + 1, said->at, more);
    push(list, k->start), encode(k, (Text){whole, size + 1 + more}, list), release(&mine);
    if (said) push(list, k->end), encode(k, text("\n"), list);
}

static void chat(Session *s) {
    const Tokenizer *k = &s->m->tokenizer;
    char *line = NULL, fault[512];
    size_t size = 0;
    Tokens unread = {0}; // what the model has to read before the next message
    Memory memory = {0};
    puts("Talk with the model. /reset forgets the conversation, Ctrl-C stops an answer, Ctrl-D ends.");
    for (Text said = text("/reset");;) {
        if (is(said, "/reset")) {
            Text system = text(s->options->system ? s->options->system : "");
            forget(&memory), free(unread.at), unread = beginning(s);
            if (system.size) message(k, "system", &system, &unread);
        }
        interrupted = 0, printf("\n> "), flush();
        ssize_t length = getline(&line, &size, stdin);
        if (length < 0) return (void)putchar('\n');
        for (said = (Text){line, length}; said.size && strchr(" \t\r\n\v\f", said.at[said.size - 1]);) said.size--;
        for (; said.size && strchr(" \t\r\n\v\f", *said.at); said.size--) said.at++;
        if (!said.size || is(said, "/reset")) continue;
        int count = (int)unread.count, before = memory.length;
        message(k, "user", &said, &unread), message(k, "assistant", NULL, &unread);
        Answer a = {s, &unread, &memory, NOTHING};
        if (!attempt(answer, &a, fault)) fprintf(stderr, "[%s; /reset begins a new conversation]\n", fault);
        unread.count = a.token == NOTHING ? count : 0;
        if (a.token == NOTHING) memory.length = before; // as if this had not been said
        if (a.token >= 0) push(&unread, a.token);
        if (a.token != NOTHING) push(&unread, k->end), encode(k, text("\n"), &unread);
    }
}

// The log-probability of a text: of a long one, in windows that overlap by half a context.
static void score(Session *s) {
    Text data = read_all(s->options->text);
    uint32_t code;
    for (size_t i = 0, n; i < data.size; i += n) {
        n = character(data.at + i, data.size - i, &code);
        must(n - 1 < 4, "cannot read '%.200s' as UTF-8 text: there is none at byte %zu", s->options->text, i);
    }
    Tokens list = {0};
    Memory memory = {0};
    encode(&s->m->tokenizer, data, &list);
    int begins = s->m->tokenizer.begin >= 0, count = (int)list.count, at = 1 - begins; // at: the first not yet scored
    int context = s->m->context, V = s->m->V, *window = malloc(4 * list.count + 4);
    must(count > at, "there is nothing to score: the text is empty");
    double total = 0;
    for (int size, given; at < count; at += size - given) {
        int back = LEAST(at, (context - 1) / 2);
        given = begins + back, size = LEAST(count - at + given, context), *window = s->m->tokenizer.begin;
        memcpy(window + begins, list.at + at - back, 4 * (size - begins)), memory.length = 0;
        for (int i = 0, n, rows; i < size - 1; i += n) {
            n = LEAST(size - 1 - i, 64), rows = LEAST(i + n - given + 1, n);
            read_on(s, &memory, window + i, n, rows = rows < 0 ? 0 : rows);
            for (int row = 0; row < rows; row++) {
                const float *scores = s->scores + (size_t)row * V, best = scores[best_of(scores, V)];
                double sum = 0;
                for (int v = 0; v < V; v++) sum += exp((double)scores[v] - best);
                total += (double)scores[window[i + n - rows + row + 1]] - best - log(sum);
            }
        }
    }
    printf("%.4f nats, %.4f bits per byte\n", total, -total / log(2) / (double)data.size);
    printf("%d tokens, %zu bytes, in windows of %d tokens\n", count - !begins, data.size, context);
}

// The maker's tokens, computed as the maker did, in float32. Then the quick kernels must hold the same ones for likely.
static void selftest(Session *s) {
    const File *f = &s->m->file;
    const Value *told = get(f, "twofold.selftest.tokens", UINT32S, false); // of the prompt and what follows
    Tokens tokens = beginning(s);
    Memory memory = {0};
    char fault[512];
    encode(&s->m->tokenizer, words(f, "twofold.selftest.prompt", ""), &tokens);
    size_t start = tokens.count, V = s->m->V;
    must(told && start && told->count <= (uint64_t)s->m->context, "%.200s carries no self-test", f->path);
    for (size_t unread = start; tokens.count < told->count; unread = 1) {
        read_on(s, &memory, tokens.at + tokens.count - unread, (int)unread, 1);
        push(&tokens, best_of(s->scores, (int)V));
    }
    bool equal = start < told->count && !memcmp(tokens.at, told->at, told->count * sizeof(int));
    must((forget(&memory), equal), "self-test FAILED: not the tokens of its maker");
    Session quick = {twofold_open(f->path, (int)s->m->team.count, false, fault), s->options, 0, s->scores, s->all};
    must(quick.m, "%s", fault);
    for (int i = 0, n; i < (int)tokens.count - 1; i += n) {
        n = LEAST((int)tokens.count - 1 - i, 64);
        read_on(&quick, &memory, tokens.at + i, n, n);
        for (int row = i < (int)start - 1 ? (int)start - 1 - i : 0; row < n; row++) {
            const float *scores = s->scores + (size_t)row * V, best = scores[best_of(scores, V)];
            double mean = 0;
            for (size_t v = 0; v < V; v++) mean += scores[v] / (double)V;
            bool near = best - scores[tokens.at[i + row + 1]] <= 0.2 * (best - mean);
            must(near, "self-test FAILED: the quick kernels find other tokens than the exact ones");
        }
    }
    printf("self-test passed: %d tokens computed, each as it should be\n", (int)(told->count - start));
    twofold_close(quick.m), free(tokens.at), forget(&memory);
}

static const char *grouped(uint64_t n) { // 1,234,567
    static char buffers[2][32];
    static int turn;
    char *at = buffers[turn = !turn] + 31;
    for (int i = 1; *--at = '0' + n % 10, n /= 10; i++) if (i % 3 == 0) *--at = ',';
    return at;
}

static void info(Session *s) {
    static const int sorted[] = {BF16, F16, F32, Q4_0, Q4_K, Q6_K, Q8_0};
    const File *f = &s->m->file;
    uint64_t weights = 0, types = 0;
    for (const Tensor *t = f->tensors; t < f->tensors + f->tensor_count; t++)
        weights += t->rows * t->width, types |= 1ull << t->type;
    printf("%s parameters ", grouped(weights));
    for (size_t i = 0, n = 0; i < COUNT(sorted); i++)
        if (types >> sorted[i] & 1) printf("%s%s", n++ ? ", " : "(", TYPE[sorted[i]].name);
    printf("), %.1f MB\n%d layers of %d, ", (double)f->size / 1e6, s->m->layers, s->m->D);
    printf("%s tokens, context %s\n", grouped(s->m->V), grouped(s->m->context));
}

// ---- 9. The command line. ----
static const char ABOUT[] = "A language model in two files: this program, and model.gguf beside it.\n\n"
    "    run                            talk with the model (or: chat)\n"
    "    run generate \"Once upon a\"     go on with a text\n"
    "    run score story.txt            how well is a text predicted? In nats, and bits per byte\n"
    "    run selftest                   is this file whole, and does it compute here what it should?\n"
    "    run info                       what is in the file?\n\n"
    "For a text, - is standard input. Options:\n\n";
static const struct { const char *name; void (*run)(Session *); } COMMANDS[] = {
    {"chat", chat}, {"generate", generate}, {"score", score}, {"selftest", selftest}, {"info", info}};
static Options options = {.text = "", .temperature = 0.8, .top_p = 1, .seed = INT64_MIN};
static const struct { const char *name; char kind; void *at; const char *meaning; } OPTIONS[] = {
    {"--model", 's', &options.model, "the parameter file (default: model.gguf beside this program)"},
    {"--temperature", 'f', &options.temperature, "0 takes the best token; 1 draws by the model's own chances (0.8)"},
    {"--top-k", 'i', &options.top_k, "draw from the best k only; 0 is all (0)"},
    {"--top-p", 'f', &options.top_p, "draw from the best that make up this probability (1)"},
    {"--min-p", 'f', &options.min_p, "leave out what has less than this share of the best one's chance (0)"},
    {"--seed", 'i', &options.seed, "the same number gives the same text"},
    {"--max-tokens", 'i', &options.max_tokens, "stop after so many; 0 is when the model or its context ends (0)"},
    {"--system", 's', &options.system, "an instruction before the conversation"},
    {"--threads", 'i', &options.threads, "how many threads compute (one for each core)"},
    {"--exact", 0, &options.exact, "compute in float32 throughout, as run.py does; slower"},
    {"--selftest", 0, &options.selftest, "the same as the command selftest"},
    {"--help", 0, &options.help, "this text"}, {"-h", 0, &options.help, "this text"}};

static _Noreturn void misused(const char *fault, const char *what, const char *more) {
    fprintf(stderr, "run: %s %s %s\n", fault, what, more), exit(2);
}

static void read_options(char **words) {
    for (int texts = 0; *++words;) {
        const char *equals = **words == '-' ? strchr(*words, '=') : NULL, *given = equals ? equals + 1 : words[1];
        Text name = {*words, equals ? (size_t)(equals - *words) : strlen(*words)};
        size_t i = 0;
        while (i < COUNT(OPTIONS) && !is(name, OPTIONS[i].name)) i++;
        if (i == COUNT(OPTIONS)) {
            if ((**words == '-' && (*words)[1]) || texts == 2) misused("unrecognized argument:", *words, "");
            *(texts++ ? &options.text : &options.command) = *words;
            continue;
        }
        char *end = "", kind = OPTIONS[i].kind;
        if (kind && !given) misused("a value must follow", OPTIONS[i].name, "");
        errno = 0;
        if (kind == 0) *(bool *)OPTIONS[i].at = true;
        if (kind == 's') *(const char **)OPTIONS[i].at = given;
        if (kind == 'i') *(int64_t *)OPTIONS[i].at = strtoll(given, &end, 10);
        if (kind == 'f') *(double *)OPTIONS[i].at = strtod(given, &end);
        if (kind == 'i' && (*end || !*given || errno)) misused("invalid int value:", OPTIONS[i].name, given);
        if (kind == 'f' && (*end || !*given)) misused("invalid float value:", OPTIONS[i].name, given);
        words += kind && !equals;
    }
}

int main(int count, char **arguments) {
    for (int i = 0; i < 3; i++) if (fcntl(i, F_GETFD) < 0) open("/dev/null", O_RDWR); // a closed stream leads nowhere
    char beside[4096] = "model.gguf", fault[512];
    const char *slash = count ? strrchr(*arguments, '/') : NULL;
    if (slash) snprintf(beside, sizeof beside, "%.*smodel.gguf", (int)(slash + 1 - *arguments), *arguments);
    options.model = beside, options.threads = sysconf(_SC_NPROCESSORS_ONLN);
    if (count) read_options(arguments);
    const Options *o = &options;
    bool good = o->temperature >= 0 && isfinite(o->temperature) && o->top_k >= 0 && o->max_tokens >= 0;
    good &= o->threads > 0 && (o->seed >= 0 || o->seed == INT64_MIN);
    good &= o->min_p >= 0 && o->min_p <= 1 && o->top_p > 0 && o->top_p <= 1;
    must(good, "the numbers given cannot be negative, nor top-p and min-p above 1");
    const char *command = o->selftest ? "selftest" : o->command ? o->command : isatty(0) ? "chat" : NULL;
    if (o->help || !command) {
        printf("%s", ABOUT);
        for (size_t i = 0; i < COUNT(OPTIONS); i++) printf("  %-14s %s\n", OPTIONS[i].name, OPTIONS[i].meaning);
        return flush(), 0;
    }
    size_t i = 0;
    while (i < COUNT(COMMANDS) && strcmp(command, COMMANDS[i].name)) i++;
    if (i == COUNT(COMMANDS)) misused("there is no command", command, "but chat, generate, score, selftest, info");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = o->seed >= 0 ? o->seed : (int64_t)now.tv_nsec << 32 ^ now.tv_sec ^ (int64_t)getpid() << 20;
    bool exact = o->exact || COMMANDS[i].run == selftest; // its maker computed so
    Model *m = twofold_open(o->model, (int)LEAST(o->threads, 256), exact, fault);
    must(m, "%s", fault);
    Session s = {m, o, seed, room(&m->owned, m->V, 64 * sizeof(float)), room(&m->owned, m->V, sizeof(Candidate))};
    if (i < 2) sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL); // Ctrl-C ends an answer
    return COMMANDS[i].run(&s), flush(), 0;
}
#endif
