// Times run.c, for cpu_inference.py:
//
//     cpu_inference MODEL THREADS SECONDS    tokens a second: "prefill" reads 512 tokens, 256 at a time; "decode B"
//                                            appends 128 tokens to each of B branches, with all scores after each
//     cpu_inference peaks THREADS            what the machine can do: GB/s read from memory, GOP/s of each kind of
//                                            product in registers
//
// Each is done again until SECONDS have passed, twice at least, and the best time counts.
#define TWOFOLD_LIBRARY
#include "../twofold/twofiles/run.c"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { READ = 1 << 28, TURNS = 200000, SUMS = 12, OPERANDS = 2 }; // as many as wait for nobody and fit into registers
typedef struct { const char *memory; int kind; volatile float sink[64]; } Peak;

// Random, as real ones are: with numbers that are all alike some processors are much faster, as those take less power.
// Of kind 1 bytes; of the others numbers from 0.5 to 1 of either sign, in float32 and in pairs of bfloat16.
static void random_numbers(int kind, uint32_t *to, int count) {
    for (uint32_t i = 0, dice = 1; i < (uint32_t)count; i++) {
        for (int turn = 0; turn < 3; turn++) dice ^= turn == 0 ? dice << 13 : turn == 1 ? dice >> 17 : dice << 5;
        to[i] = kind == 1 ? dice : (dice & 0x807f807f) | 0x3f003f00;
    }
}

INLINE void reach_of(const int kind, Peak *p, int item) { // a kind known to the compiler
    I sums[SUMS] = {{0}}, a[OPERANDS];
    F floats[SUMS];
    uint32_t b[OPERANDS];
    random_numbers(kind, (uint32_t *)a, OPERANDS * W), random_numbers(kind, b, OPERANDS);
    for (int i = 0; i < SUMS; i++) floats[i] = (F){0} + p->sink[i]; // nobody knows that all are alike
    for (int i = 0; i < SUMS; i++) sums[i] = (I)floats[i];
    const char *at = p->memory + (size_t)item * READ;
    if (kind == 0) for (const char *last = at + READ; at < last; at += 256)
        UNROLL for (int i = 0; i < 4; i++) sums[i] += *(const I *)(at + 64 * i);
    for (int turn = 0; turn < (kind ? TURNS : 0); turn++) {
        UNROLL for (int i = 0; i < SUMS; i++) {
            const int n = i % OPERANDS, m = i / OPERANDS % OPERANDS;
            Input input[2];
            memcpy(input, sizeof(Input) == 2 ? &b[m] : (uint32_t[]){b[m], b[m]}, sizeof input);
            if (kind == 1) sums[i] = add_fours(Q8_0, sums[i], a[n], b[m]);
            if (kind == 2) floats[i] = add_pairs(floats[i], a[n], input, false); // without an instruction for both: one
            if (kind == 3) floats[i] = fused(floats[i], (F)a[n], all(((float *)b)[m]));
        }
        UNROLL for (int i = 0; i < OPERANDS; i++) COMPUTED(a[i]); // nor that the next turn's products are this one's
    }
    float sum = 0;
    for (int i = 0; i < SUMS; i++) sum += (float)sums[i][0] + floats[i][0];
    p->sink[item % 64] = sum;
}

static void reach_tiles(void) { // of AMX
#ifdef AMX
    _Alignas(64) uint32_t numbers[4][256];
    random_numbers(2, numbers[0], 4 * 256);
    shape_tiles(16);
    TILE_LOAD(4, numbers[0], 64);
    TILE_LOAD(5, numbers[1], 64);
    TILE_LOAD(6, numbers[2], 64);
    TILE_LOAD(7, numbers[3], 64);
    for (int turn = 0; turn < TURNS; turn++) {
        TILE_ADD(0, 4, 6);
        TILE_ADD(1, 4, 7);
        TILE_ADD(2, 5, 6);
        TILE_ADD(3, 5, 7);
    }
    __asm__ volatile("tilerelease");
#endif
}

static void reach(void *what, int item, int end) {
    for (Peak *p = what; item < end; item++) {
        if (p->kind == 0) reach_of(0, p, item);
        if (p->kind == 1) reach_of(1, p, item);
        if (p->kind == 2) has_tiles ? reach_tiles() : reach_of(2, p, item);
        if (p->kind == 3) reach_of(3, p, item);
    }
}

static int peaks(int threads) {
    static const char *const names[] = {"read", "int8", "bf16", "f32"};
    static Team team;
    Block *chain = NULL;
    Peak p = {room(&chain, threads, READ), 0, {0}};
    start(&team, threads);
    const double each = W * SUMS * TURNS, pairs = has_tiles ? 4. * 16384 * TURNS : (sizeof(Input) == 2 ? 4 : 2) * each;
    const double amount[] = {READ, 8 * each, pairs, 2 * each};
    for (; p.kind < 4; p.kind++) {
        double best = 1e9;
        for (int turn = 0; turn < 10; turn++) {
            double begun = now();
            share(&team, threads, reach, &p);
            best = now() - begun < best ? now() - begun : best;
        }
        printf("%s %g\n", names[p.kind], 1e-9 * threads * amount[p.kind] / best);
    }
    return 0;
}

int main(int count, char **arguments) {
    char fault[512];
    if (count == 3 && !strcmp(arguments[1], "peaks")) return peaks(atoi(arguments[2]));
    if (count != 4) return fprintf(stderr, "cpu_inference MODEL THREADS SECONDS, or: peaks THREADS\n"), 2;
    double begun = now(), limit = atof(arguments[3]);
    Model *m = twofold_open(arguments[1], atoi(arguments[2]), false, fault);
    if (!m) return fprintf(stderr, "%s\n", fault), 1;
    printf("open %g\n", now() - begun), fflush(stdout);
    static const int branches[] = {0, 1, 2, 4, 8, 16};
    for (size_t b = 0; b < COUNT(branches); b++) {
        int B = branches[b] ? branches[b] : 1, total = branches[b] ? 128 : 512, each = branches[b] ? 1 : 256;
        Block *chain = NULL;
        float *scores = room(&chain, (size_t)B * m->V, sizeof(float));
        int *tokens = room(&chain, 512, sizeof(int));
        char **pages = room(&chain, (size_t)B * 32, sizeof *pages);
        for (int i = 0; i < B * 32; i++) pages[i] = room(&chain, twofold_page_size(m), 1);
        for (int i = 0; i < 512; i++) tokens[i] = (i * 7919 + 13) % m->V;
        double best = 1e9, end = now() + limit;
        for (int turn = 0; turn < 2 || now() < end; turn++) {
            double start = now();
            for (int at = 0; at < total; at += each) {
                Part parts[16];
                for (int i = 0; i < B; i++) parts[i] = (Part){tokens + (at + i) % 512, each, at, 1, pages + i * 32};
                const char *wrong = twofold_read(m, parts, B, scores);
                if (wrong) return fprintf(stderr, "%s\n", wrong), 1;
            }
            double took = now() - start;
            best = took < best ? took : best;
        }
        if (branches[b]) printf("decode %d %g\n", B, B * total / best);
        else printf("prefill %g\n", total / best);
        fflush(stdout), release(&chain);
    }
    twofold_close(m);
}
