/*
 * QEMU's fw_cfg device: files that its command line hands to the guest (QEMU
 * docs/specs/fw_cfg.rst). Port 0x510 selects an item, port 0x511 gives its bytes. All numbers of
 * the directory are big-endian. Reads as nothing where there is no such device.
 */
#include "machine.h"
#include "lib/string.h"

#define PORT_SELECT   0x510
#define PORT_DATA     0x511
#define KEY_SIGNATURE 0x00
#define KEY_DIRECTORY 0x19
#define FILES_MAX     4096

struct fw_cfg_file {
    u32 size;
    u16 select, reserved;
    char name[56];
};

static void fw_cfg_bytes(void *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((u8 *)buf)[i] = inb(PORT_DATA);
}

static u32 big32(u32 v)
{
    return __builtin_bswap32(v);
}

size_t fw_cfg_read(const char *name, void *buf, size_t max)
{
    char signature[4];
    outw(PORT_SELECT, KEY_SIGNATURE);
    fw_cfg_bytes(signature, sizeof(signature));
    if (memcmp(signature, "QEMU", 4) != 0)
        return 0;

    u32 files;
    outw(PORT_SELECT, KEY_DIRECTORY);
    fw_cfg_bytes(&files, sizeof(files));
    files = MIN(big32(files), (u32)FILES_MAX);
    for (u32 i = 0; i < files; i++) {
        struct fw_cfg_file f;
        fw_cfg_bytes(&f, sizeof(f));
        f.name[sizeof(f.name) - 1] = 0;
        if (strcmp(f.name, name) != 0)
            continue;
        size_t n = MIN((size_t)big32(f.size), max);
        outw(PORT_SELECT, __builtin_bswap16(f.select));
        fw_cfg_bytes(buf, n);
        return n;
    }
    return 0;
}
