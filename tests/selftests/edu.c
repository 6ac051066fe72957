// SPDX-License-Identifier: GPL-2.0
/* The DMA engine of QEMU's "edu" device, see edu.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "edu.h"

#define EDU_BAR_SIZE		0x100000

#define EDU_REG_ID		0x00
#define EDU_REG_RAISE		0x60
#define EDU_REG_LOWER		0x64
#define EDU_REG_DMA_FROM	0x80
#define EDU_REG_DMA_TO		0x88
#define EDU_REG_DMA_COUNT	0x90
#define EDU_REG_DMA_COMMAND	0x98

/* 0xRRrr00ed: RR and rr are a version */
#define EDU_ID_MASK		0x0000ffff
#define EDU_ID			0x000000ed

/* The value is of no meaning to the device. */
#define EDU_INTERRUPT		1

#define EDU_DMA_RUN		0x1
#define EDU_DMA_TO_MEMORY	0x2

/* The device's own address of its buffer */
#define EDU_BUFFER		0x40000

#define EDU_TIMEOUT_SECONDS	20

#define PCI_CONFIG_SIZE		0x1000

static int sysfs_open(const char *bdf, const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	fd = open(path, flags);
	if (fd < 0)
		perror(path);
	return fd;
}

static int sysfs_enable_dma(const char *bdf)
{
	uint16_t command;
	int ret = -1;
	int fd;

	fd = sysfs_open(bdf, "config", O_RDWR);
	if (fd < 0)
		return -1;

	if (pread(fd, &command, sizeof(command), PCI_COMMAND) == sizeof(command)) {
		command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) == sizeof(command))
			ret = 0;
	}
	if (ret)
		perror("PCI command register");
	close(fd);
	return ret;
}

int edu_open_sysfs(struct edu *edu, const char *bdf)
{
	void *bar;
	int fd;

	if (sysfs_enable_dma(bdf))
		return -1;

	fd = sysfs_open(bdf, "resource0", O_RDWR);
	if (fd < 0)
		return -1;
	bar = mmap(NULL, EDU_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bar == MAP_FAILED) {
		perror("mmap of resource0");
		return -1;
	}
	edu->registers = bar;
	return edu_check(edu);
}

static void *physical_map(int fd, uint64_t address, size_t len)
{
	void *mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, address);

	if (mapped != MAP_FAILED)
		return mapped;
	perror("mmap of /dev/mem");
	return NULL;
}

int edu_open_unknown(struct edu *edu, uint64_t config, uint64_t bar)
{
	void *registers = NULL;
	uint16_t command;
	int fd;

	fd = open("/dev/mem", O_RDWR | O_SYNC);
	if (fd < 0) {
		perror("/dev/mem");
		return -1;
	}
	registers = physical_map(fd, config, PCI_CONFIG_SIZE);
	edu->registers = physical_map(fd, bar, EDU_BAR_SIZE);
	close(fd);
	if (!registers || !edu->registers)
		return -1;

	writel(bar, registers + PCI_BASE_ADDRESS_0);
	command = readw(registers + PCI_COMMAND);
	writew(command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, registers + PCI_COMMAND);
	return edu_check(edu);
}

int edu_check(const struct edu *edu)
{
	uint32_t id = readl(edu->registers + EDU_REG_ID);

	if ((id & EDU_ID_MASK) == EDU_ID)
		return 0;
	fprintf(stderr, "not an edu device: its id register reads %#x\n", id);
	return -1;
}

void edu_raise_interrupt(const struct edu *edu)
{
	writel(EDU_INTERRUPT, edu->registers + EDU_REG_RAISE);
}

void edu_lower_interrupt(const struct edu *edu)
{
	writel(EDU_INTERRUPT, edu->registers + EDU_REG_LOWER);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int edu_wait(const struct edu *edu)
{
	const double deadline = seconds_now() + EDU_TIMEOUT_SECONDS;

	while (readq(edu->registers + EDU_REG_DMA_COMMAND) & EDU_DMA_RUN) {
		if (seconds_now() > deadline) {
			fprintf(stderr, "the edu device did not end a transfer within %d s\n",
				EDU_TIMEOUT_SECONDS);
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	return 0;
}

static int edu_start(const struct edu *edu, uint64_t from, uint64_t to, size_t len,
		     uint64_t command)
{
	if (!len || len > EDU_MAX_TRANSFER)
		return -EINVAL;

	writeq(from, edu->registers + EDU_REG_DMA_FROM);
	writeq(to, edu->registers + EDU_REG_DMA_TO);
	writeq(len, edu->registers + EDU_REG_DMA_COUNT);
	writeq(command | EDU_DMA_RUN, edu->registers + EDU_REG_DMA_COMMAND);
	return 0;
}

int edu_read_memory(const struct edu *edu, uint64_t from, size_t len)
{
	return edu_start(edu, from, EDU_BUFFER, len, 0) ?: edu_wait(edu);
}

int edu_start_write(const struct edu *edu, uint64_t to, size_t len)
{
	return edu_start(edu, EDU_BUFFER, to, len, EDU_DMA_TO_MEMORY);
}

int edu_write_memory(const struct edu *edu, uint64_t to, size_t len)
{
	return edu_start_write(edu, to, len) ?: edu_wait(edu);
}
