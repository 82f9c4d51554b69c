// run.c with doors for the tests: as a library for ctypes, and as a program that opens damaged files.
//
//     cc -fsanitize=address,undefined fuzz_run.c -I ../../twofold/twofiles -o fuzz -lm -lpthread
//     ./fuzz whole.gguf scratch.gguf 2000 1     damage so many copies, from this seed on
//
// With -DGUIDED a fuzzer has the files instead (libFuzzer's door, which AFL++ knows too: benchmarks/fuzz_run_c.py).
#define main run_main
#include "run.c"
#undef main

void door_unpack(int type, const uint8_t *at, int count, float *out) { unpack(type, at, count, out); }

void door_exponential(const float *x, int count, float *out) {
    for (int i = 0; i < count; i += W) *(AnyF *)&out[i] = exponential(*(const AnyF *)&x[i]);
}

void door_product(int type, int rows, int width, const uint8_t *raw, int T, const float *x, float *out, int threads) {
    static Team team;
    Block *owned = NULL;
    if (!team.count) start(&team, threads);
    Tensor tensor = {.type = type, .rows = rows, .width = width, .at = raw};
    tensor.stride = (size_t)width / TYPE[type].weights * TYPE[type].bytes;
    const Tensor *parts[] = {&tensor};
    Matrix m = pack(&team, &owned, false, 1, parts);
    multiply(&team, &m, T, x, m.columns, room(&owned, T, 2 * m.columns), out, rows, false);
    release(&owned);
}

static uint64_t dice;

static size_t draw(size_t sides) { return (size_t)(uniform(&dice) * (double)sides); }

static const char *said; // a file of what is said to the model, if there is one

static bool survives(const char *path) { // opens and computes, or fails with a message
    char fault[512];
    Options ask = {.temperature = 1, .top_p = 0.9, .top_k = 5, .max_tokens = 3, .text = "It's 5"};
    Model *m = twofold_open(path, 1, draw(2), fault);
    if (!m) return false;
    Trap here;
    trap = &here;
    bool good = !setjmp(here.back);
    if (good) {
        Session s = {m, &ask, 1, room(&m->owned, m->V, 64 * 4), room(&m->owned, m->V, sizeof(Candidate))};
        generate(&s), info(&s);
        if (said && freopen(said, "r", stdin)) ask.text = said, score(&s), chat(&s);
        selftest(&s);
    }
    trap = NULL, twofold_close(m);
    return good;
}

#ifdef GUIDED
static int in_memory(const void *data, size_t size, char path[32]) { // a file, and its path
    int file = memfd_create("model", 0);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    return snprintf(path, 32, "/proc/self/fd/%d", file), file;
}

int LLVMFuzzerInitialize(int *count, char ***words) {
    static const char lines[] = "It's 5 o'clock.\n\n/reset\n  Was \xc3\xa9t\xc3\xa9 12345678 \xe2\x82\xac?\n";
    static char path[32];
    in_memory(lines, sizeof lines - 1, path), said = path;
    return (void)count, (void)words, !freopen("/dev/null", "w", stdout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[32];
    int file = in_memory(data, size, path);
    dice = size, survives(path); // the same file is computed in the same way
    return close(file);
}

#ifdef __SANITIZE_ADDRESS__ // GCC says at every branch where it is; AFL++ counts the ways from one to the next
extern uint8_t *__afl_area_ptr;

__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void) {
    static uintptr_t before;
    uintptr_t here = (uintptr_t)__builtin_return_address(0) * 0x9e3779b97f4a7c15 >> 48;
    __afl_area_ptr[here ^ before]++, before = here >> 1;
}

void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; } // whole numbers it compares itself
void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }
#endif
#else
int main(int count, char **words) {
    if (count != 5) return 2;
    Text whole = read_all(words[1]);
    int files = atoi(words[3]), opened = 0;
    dice = strtoull(words[4], NULL, 10);
    Tensor *first = NULL;
    char fault[512];
    Model *m = twofold_open(words[1], 1, false, fault);
    if (!m) return fprintf(stderr, "%s\n", fault), 2;
    for (Tensor *t = m->file.tensors; t < m->file.tensors + m->file.tensor_count; t++)
        if (!first || t->at < first->at) first = t;
    size_t head = first->at - m->file.bytes;
    twofold_close(m);
    static const char *const lies[] = {"\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\x7f", "\0\0\0\0\0\0\0\0",
                                       "\0\0\0\0\0\0\0\x10", "\x09\0\0\0\0\0\0\0", "\x01\0\0\0\x01\0\0\0", "\0\0\0\x80\0\0\0\x80"};
    char *copy = malloc(whole.size);
    for (int file = 0; file < files; file++) {
        size_t size = whole.size, where = draw(10) ? head : size; // the weights may be anything: they are hit less often
        memcpy(copy, whole.at, size);
        for (size_t i = 0, hits = 1 + draw(3); i < hits; i++) {
            size_t at = draw(where - 8);
            if (draw(2)) copy[at] ^= 1 << draw(8);
            else memcpy(copy + at, lies[draw(sizeof lies / sizeof *lies)], draw(2) ? 8 : 4);
        }
        if (!draw(8)) size = draw(size);
        FILE *out = fopen(words[2], "wb");
        if (!out || fwrite(copy, 1, size, out) != size || fclose(out)) return 2;
        opened += survives(words[2]);
    }
    free(copy);
    fprintf(stderr, "%d of %d were harmless\n", opened, files);
    return 0;
}
#endif
