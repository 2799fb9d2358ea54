/* lib/cpio: archives made here, byte by byte. */
#include "lib/cpio.h"
#include "tests/host/lib/parse.h"

static struct bytes ar;

static void member(const char *name, u32 mode, const char *data, size_t len)
{
    char header[120];
    snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X",
             1, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, strlen(name) + 1, 0);
    bytes_add(&ar, header, 110);
    bytes_add(&ar, name, strlen(name) + 1);
    bytes_align(&ar, 4);
    bytes_add(&ar, data, len);
    bytes_align(&ar, 4);
}

static void begin(void)
{
    bytes_free(&ar);
    member(".", 0040755, "", 0);
    member("./secretive", 0100755, "ELF-ish", 7);
    member("dir", 0040755, "", 0);
    member("prober", 0100644, "", 0);
    member("last", 0100644, "abcd", 4);
}

static void finish(void)
{
    member("TRAILER!!!", 0, "", 0);
}

static void cpio_good(void)
{
    struct cpio c;
    struct cpio_entry e;
    const char *names[] = {".", "secretive", "dir", "prober", "last"};
    begin();
    finish();
    bytes_zero(&ar, 300); /* loaders and cpio pad */
    cpio_open(&c, ar.data, ar.len);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        CHECK_EQ(cpio_next(&c, &e), 1);
        CHECK_STR(e.name, names[i]);
        CHECK_EQ(cpio_is_file(&e), i != 0 && i != 2);
    }
    CHECK_EQ(cpio_next(&c, &e), 0);
    CHECK_EQ(cpio_next(&c, &e), 0);

    CHECK_EQ(cpio_find(ar.data, ar.len, "secretive", &e, NULL), 0);
    CHECK_EQ(e.size, 7);
    CHECK(memcmp(e.data, "ELF-ish", 7) == 0);
    CHECK_EQ(cpio_find(ar.data, ar.len, "prober", &e, NULL), 0);
    CHECK_EQ(e.size, 0);
    CHECK_EQ(cpio_find(ar.data, ar.len, "dir", &e, NULL), E_NOENT); /* no file */
    CHECK_EQ(cpio_find(ar.data, ar.len, "secret", &e, NULL), E_NOENT);
    CHECK_EQ(cpio_find(ar.data, ar.len, "TRAILER!!!", &e, NULL), E_NOENT);
}

/* Finding what stands behind a fault fails with a reason. */
static void broken(const char *part)
{
    struct cpio_entry e;
    const char *why = NULL;
    CHECK_EQ(cpio_find(ar.data, ar.len, "nowhere", &e, &why), E_FORMAT);
    CHECK_HAS(why, part);
}

static void cpio_broken(void)
{
    begin();
    broken("without a trailer");
    bytes_free(&ar);
    broken("without a trailer");
    begin();
    finish();
    memcpy(ar.data, "070707", 6);
    broken("no newc header");
    begin();
    finish();
    ar.data[6 + 8 * 6 + 3] = 'g';
    broken("hexadecimal");
    begin();
    finish();
    memset(ar.data + 6 + 8 * 11, '0', 8);
    broken("name");
    memset(ar.data + 6 + 8 * 11, 'f', 8);
    broken("name");
    begin();
    finish();
    memcpy(ar.data + 6 + 8 * 11, "00000001", 8); /* a name longer than it says */
    broken("name");
    begin();
    finish();
    memcpy(ar.data + 6 + 8 * 11, "00000006", 8); /* with a NUL in its middle */
    broken("name");
    begin();
    finish();
    memset(ar.data + 6 + 8 * 6, 'F', 8);
    broken("data that goes past");
}

static void cpio_cut_anywhere(void)
{
    begin();
    finish();
    for (size_t len = 0; len < ar.len; len++) {
        struct cpio_entry e;
        struct bytes part = {0};
        bytes_add(&part, ar.data, len);
        int got = cpio_find(part.data, part.len, "nowhere", &e, NULL);
        CHECK(got == E_FORMAT || (got == E_NOENT && len + 4 > ar.len));
        bytes_free(&part);
    }
}

static void cpio_noise(void)
{
    for (unsigned round = 0; round < 20000; round++) {
        struct cpio c;
        struct cpio_entry e;
        begin();
        finish();
        for (unsigned n = 1 + check_random() % 5; n; n--)
            ar.data[check_random() % ar.len] = (u8)(check_random() >> check_random() % 9);
        cpio_open(&c, ar.data, ar.len);
        volatile u8 sum = 0;
        while (cpio_next(&c, &e) > 0) {
            for (u64 i = 0; i < e.size; i++)
                sum = (u8)(sum + ((const u8 *)e.data)[i]);
            sum = (u8)(sum + strlen(e.name));
        }
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(cpio_good);
    RUN(cpio_broken);
    RUN(cpio_cut_anywhere);
    RUN(cpio_noise);
    bytes_free(&ar);
    return check_done();
}
